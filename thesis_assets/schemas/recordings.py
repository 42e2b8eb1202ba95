"""Files beside recordings: the record of their pictures."""

from thesis_assets.schemas.base import FileModel


class PreviewPicture(FileModel):
    """One picture of a recording."""

    file: str
    """Beside the record."""
    page: str
    """The tab that is shown, as the viewer names it."""
    timeline: str
    position: int


class PreviewRecord(FileModel):
    """`<recording>.previews/previews.json`: the pictures show the recording whose inputs have this digest."""

    input_digest: str
    rerun_sdk: str
    pictures: list[PreviewPicture]
    faults: list[str]
    """What views reported as wrong, and the viewer's own warnings."""
