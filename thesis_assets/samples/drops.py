"""From the error of one sample to the row that says why it was dropped."""

from pathlib import Path

from thesis_assets.errors import InvalidFile, InvalidScene, ThesisAssetsError
from thesis_assets.images.codecs import SizeMismatch
from thesis_assets.layout import SampleId
from thesis_assets.rendering.renderer import MissingRender, RenderSizeMismatch
from thesis_assets.samples.views import LowMaskCoverage
from thesis_assets.schemas.samples import DroppedSample, DropReason

_REASONS: tuple[tuple[type[ThesisAssetsError], DropReason], ...] = (
    (MissingRender, "missing_render"),
    (RenderSizeMismatch, "size_mismatch"),
    (SizeMismatch, "size_mismatch"),
    (LowMaskCoverage, "low_mask_coverage"),
    (InvalidFile, "unreadable_input"),
    (InvalidScene, "unreadable_input"),
)
_SAID_IN_FULL = ("size_mismatch", "low_mask_coverage")


def dropped_by(sample: SampleId, error: ThesisAssetsError) -> DroppedSample:
    """The row of a sample that could not be made.

    Raises:
        ThesisAssetsError: `error` itself, where it is no fault of one sample's inputs: then the whole scene fails.
    """
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
    if reason is None:
        raise error
    return DroppedSample(
        sample_id=str(sample),
        scene_name=sample.scene_name,
        target_cam_id=sample.target_cam_id,
        target_fname=sample.target_fname,
        reason=reason,
        detail=_detail(reason, error),
    )


def _detail(reason: DropReason, error: ThesisAssetsError) -> str:
    """What went wrong with which file, without a root: the table is the same on every machine."""
    detail = " ".join(error.problem.split())
    if error.file is not None:
        detail += ": " + "/".join(Path(error.file).parts[-3:])
    if reason in _SAID_IN_FULL:  # other errors may quote a library, and with it a full path
        detail += f" ({error.found}, wanted {error.wanted})"
    return detail
