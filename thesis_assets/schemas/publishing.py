"""Files of a publication: the index in the repo, and the record of what was sent beside the run."""

from typing import Literal

from thesis_assets.schemas.base import FileModel

RecordingKind = Literal["input_data", "evaluation", "nvs", "pose_smplx", "pose_smpl", "triplets"]


class PublishedFile(FileModel):
    """One recording in the repo."""

    path: str
    """In the repo."""
    kind: RecordingKind
    exp_name: str
    run_name: str
    scene_name: str | None
    """None: of the run's test samples."""
    epoch: int | None
    bytes: int
    sha256: str
    """Of the bytes in the repo."""
    input_digest: str
    """Of what the recording was made from: it decides whether the file is sent again."""
    rerun_sdk: str
    metrics: dict[str, float]
    datasets: list[str]
    previews: list[str]
    """Pictures in the repo, the telling ones first."""


class PublicationIndex(FileModel):
    """`recordings.json` in the repo: what each recording there is. The card is drawn from it."""

    files: list[PublishedFile] = []
    licences: dict[str, str] = {}
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
