"""What is known of a recording without opening it, the record of its pictures, and what was published of a run."""

from typing import Annotated, Literal

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


RecordingKind = Literal["input_data", "evaluation", "nvs", "pose_smplx", "pose_smpl", "triplets"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
"""The card writes it as it is, and the index comes from a repo that others may write to."""
PlaceInRepo = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", max_length=1024)
]


class PublishedFile(FileModel):
    """One recording in the repo."""

    path: PlaceInRepo
    """In the repo."""
    kind: RecordingKind
    exp_name: Name
    run_name: Name
    scene_name: Name | None
    """None: of the run's test samples."""
    epoch: int | None
    bytes: int
    sha256: str
    """Of the bytes in the repo."""
    data_version: str = Field(validation_alias=AliasChoices("data_version", "input_digest"))
    """Of the recording: it decides whether the file is sent again. Older indexes call it by the other name."""
    rerun_sdk: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]+$", max_length=64)]
    metrics: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]+$", max_length=64)], float]
    datasets: list[Name]
    previews: list[PlaceInRepo]
    """Pictures in the repo, the telling ones first."""


class PublicationIndex(FileModel):
    """`recordings.json` in the repo: what each recording there is. The card is drawn from it."""

    files: list[PublishedFile] = []
    licences: dict[Name, Annotated[str, Field(pattern=r"^[^<>\[\]`\x00-\x09]*$", max_length=500)]] = {}
    """Dataset to the name of its licence."""


class PublicationRecord(FileModel):
    """`published.json` of a run: where its recordings are, and what the last publication sent."""

    repo_id: str
    endpoint: str
    private: bool
    revision: str
    url: str
    """Of the commit."""
    files: list[PublishedFile]
    """All recordings of this run that are in the repo at this revision."""
    sent: list[str]
    """The paths that the last publication sent; none where nothing had changed."""
