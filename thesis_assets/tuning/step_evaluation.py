"""What a trainer leaves at an evaluation: `eval/metrics_<step>.csv` and `eval/contact_sheet_<step>.png`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thesis_assets.layout import TuningRunTree
from thesis_assets.storage import write_bytes
from thesis_assets.tuning.held_out_samples import HeldOutSample
from thesis_assets.tuning.refine import RefinesImages
from thesis_assets.tuning.scoring import ShownSample, mean_score, score_samples, write_score_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS = 4
COLUMNS = ("render", "refined", "target", "reference")
MAX_SHEET_BYTES = 1_000_000


def evaluate_step(
    refiner: RefinesImages, samples: Sequence[HeldOutSample], tree: TuningRunTree, step: int
) -> dict[str, float]:
    """Score the samples, write both files (the table last: it says that the evaluation is whole), return the means.

    Raises:
        InvalidFile: an image cannot be read; the message has the sample.
    """
    places = {round(i * (len(samples) - 1) / (ROWS - 1)) for i in range(ROWS)}
    shown: list[ShownSample] = []

    def keep(place: int, images: dict[int, ShownSample]) -> None:
        if place in places:
            shown.append(images[step])

    scores = score_samples({step: refiner}, samples, on_sample=keep)[step]
    write_bytes(tree.eval_contact_sheet(step), draw_sheet(shown))
    write_score_table(tree.eval_metrics(step), scores)
    means = mean_score(step, scores)
    return {
        "psnr_render": means.psnr_render,
        "psnr_refined": means.psnr,
        "ssim_render": means.ssim_render,
        "ssim_refined": means.ssim,
    }


def draw_sheet(shown: Sequence[ShownSample]) -> bytes:
    """Render, refined, target and reference of each sample in a row, as PNG."""
    from thesis_assets.images.contact_sheet import contact_sheet

    rows: list[list[NDArray[np.uint8] | None]] = [
        [images.render, images.refined, images.target, images.reference] for images in shown
    ]
    return contact_sheet(
        rows,
        column_titles=COLUMNS,
        cell_height=min(256, max(row[0].shape[0] for row in rows if row[0] is not None)),
        max_bytes=MAX_SHEET_BYTES,
        encoding="png",
    )
