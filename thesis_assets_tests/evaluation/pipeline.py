"""A stand-in for a user's 3DGS pipeline: copies a scene's renders into a tree of the output document, a shade darker each epoch.

Run as `python pipeline.py <scene folder of renders> <checkpoint or nothing> <output_dir>/<exp_name> [<epoch> ...]`. With PIPELINE_PARTS=2
it leaves instead what its own metric was of: half-size JPEG, truth (grey here) beside prediction.
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
            picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            task, camera = Path(tree, f"evaluation/epoch_{epoch:04d}/nvs"), f"cam_{path.parent.name}"
            if parts := int(os.environ.get("PIPELINE_PARTS", "0")):
                small = picture.resize((picture.width // parts, picture.height // parts), Image.Resampling.BOX)
                for side, image in (("pred", small), ("gt_inputs", Image.new("RGB", small.size, "grey"))):
                    save(image, task / side / camera / "metrics_input" / f"{path.stem}.jpg")
            else:
                save(picture, task / "inputs" / camera / "render" / path.name)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    main()
