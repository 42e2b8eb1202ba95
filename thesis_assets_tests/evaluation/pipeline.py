"""A stand-in for a user's 3DGS pipeline: copies a scene's renders into a tree of the output document, a shade darker each epoch.

Run as `python pipeline.py <scene folder of renders> <checkpoint or nothing> <output_dir>/<exp_name> [<epoch> ...]`.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    renders, checkpoint, tree, *epochs = sys.argv[1:]
    ran = Path(tree).parent / "runs.txt"
    ran.parent.mkdir(parents=True, exist_ok=True)
    with ran.open("a") as handle:
        handle.write(f"{checkpoint or 'base model'}\n")
    if os.environ.get("PIPELINE_FAILS"):
        sys.exit("out of memory on the first Gaussian")
    for epoch in map(int, epochs):
        for path in sorted(Path(renders).glob("*/*.png")):
            pixels = np.asarray(Image.open(path)).astype(int) - epoch
            target = Path(tree, f"evaluation/epoch_{epoch:04d}/nvs/inputs/cam_{path.parent.name}/render/{path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(target)


if __name__ == "__main__":
    main()
