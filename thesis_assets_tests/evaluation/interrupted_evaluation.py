"""A process that evaluates a tiny scene over and over, each time by another protocol, until it is killed.

Run as `python -m thesis_assets_tests.evaluation.interrupted_evaluation <folder>`; prints a line a step.
"""

import sys
from itertools import cycle
from pathlib import Path

import numpy as np

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, HEIGHT, WIDTH, evaluate, open_cell, write_png

VARIANTS = ("black", "white")
SHADES = {"black": 40, "white": 200}


def variant(folder: Path, background: str) -> EvaluationCell:
    """A cell whose saved images, bodies' frames and numbers all differ from those of the other variant."""
    alignment = "camera" if background == "white" else "pelvis_trajectory"
    return open_cell(folder, nvs={"background": background}, pose={"world_alignment": alignment})


def main() -> None:
    folder = Path(sys.argv[1])
    print("ready", flush=True)
    for background in cycle(VARIANTS):
        cell = variant(folder, background)
        # The predictions are stale too.
        write_png(cell.scene.tree.render(28, FRAMES[0]), np.full((HEIGHT, WIDTH, 3), SHADES[background], np.uint8))
        evaluate(cell, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
