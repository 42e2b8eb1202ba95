"""What is known of a recording without opening it, and the record of its pictures."""

from pydantic import AliasChoices, Field

from thesis_assets.schemas.base import FileModel, OlderKeys


class RecordingFacts(FileModel):
    """Of its record; of a recording of the version before records the content of its `<recording>.inputs.json`."""

    data_version: str = Field(validation_alias=AliasChoices("data_version", "input_digest"))
    rerun_sdk: str
    bytes: int
    sha256: str | None = None
    """Of the file; None: the version before records did not say."""
    absent: list[str]
    """What the tree did not have, each with its reason."""


class PreviewPicture(FileModel):
    """One picture of a recording."""

    file: str
    """Beside the record."""
    page: str
    """The tab that is shown, as the viewer names it."""
    timeline: str
    position: int


class PreviewRecord(OlderKeys):
    """`<recording>.previews/previews.json`: the pictures that lie beside it."""

    older_keys = frozenset({"input_digest"})

    rerun_sdk: str
    pictures: list[PreviewPicture]
    faults: list[str]
    """What views reported as wrong, and the viewer's own warnings."""
