"""Draw docs/images/demo_triplets.png from the demo's own samples: render, refined, target, reference, and the same part enlarged.

Run it after `make demo`, with the environment's Python: `.venv/bin/python scripts/draw_demo_triplets.py`. It prints the numbers
that stand under the pictures.
"""

import io
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.images.codecs import read_rgb
from thesis_assets.images.metrics import psnr
from thesis_assets.images.quantise import quantise, to_host
from thesis_assets.layout import SampleId
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.settings import Settings
from thesis_assets.storage import read_json, write_bytes
from thesis_assets.tuning.refine import load_refiner

# Left, top and side of the enlarged square, as shares of the picture.
SHOWN = {
    SampleId("studio_pair02_hug", 28, 16, "000003", "000003"): (0.25, 0.06, 0.32),
    SampleId("studio_pair03_dance", 28, 16, "000002", "000002"): (0.46, 0.1, 0.32),
}
COLUMNS = ("render", "refined", "target", "reference")
TARGET = Path(__file__).parents[1] / "docs" / "images" / "demo_triplets.png"


def main() -> None:
    """Draw the figure with the first run's selected checkpoint."""
    platform = Platform(Settings())
    tree = platform.difix(Cell("demo"))
    run_name = next(iter(platform.experiments.read("demo").runs))
    selected = read_json(tree.tuning_run(run_name).selected_checkpoint, SelectedCheckpoint)
    refiner = load_refiner(Path(selected.path), "cpu")
    # Twice the width of a README: sharp on a dense screen too.
    figure = Figure(figsize=(8.3, 9.1), dpi=200, layout="constrained")
    axes = figure.subplots(2 * len(SHOWN), len(COLUMNS))
    for row, (sample, (left, top, side)) in enumerate(SHOWN.items()):
        render, target, reference = map(
            read_rgb, (tree.image(sample), tree.target_image(sample), tree.ref_image(sample))
        )
        batch = [torch.tensor(image).permute(2, 0, 1)[None].float() / 255 for image in (render, reference)]
        pictures = [render, to_host(quantise(refiner.refine(*batch)))[0], target, reference]
        size = len(render)
        x, y, n = round(left * size), round(top * size), round(side * size)
        for column, picture in enumerate(pictures):
            whole, part = axes[2 * row, column], axes[2 * row + 1, column]
            whole.imshow(picture, interpolation="nearest")
            whole.add_patch(Rectangle((x - 0.5, y - 0.5), n, n, fill=False, edgecolor="gold", linewidth=1.2))
            part.imshow(picture[y : y + n, x : x + n], interpolation="nearest")
            part.spines[:].set(color="gold", linewidth=1.5)
            pair = [(picture, target), (picture[y : y + n, x : x + n], target[y : y + n, x : x + n])]
            for place, axis, (shown, truth) in zip(("whole", "part"), (whole, part), pair, strict=True):
                label = ("the true view", f"camera {sample.reference_cam_id}")[column - 2]
                if column < 2:
                    label = f"{psnr(shown, truth):.2f} dB"
                    print(f"{sample.scene_name}, camera {sample.target_cam_id}, {place}, {COLUMNS[column]}: {label}")
                axis.set(xticks=[], yticks=[])
                axis.set_xlabel(label, fontsize=12)
        axes[2 * row, 0].set_ylabel(f"{sample.scene_name}\ncamera {sample.target_cam_id}", fontsize=10)
        axes[2 * row + 1, 0].set_ylabel(f"enlarged {1 / side:.0f} times", fontsize=10)
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(name, fontsize=13)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_bytes(TARGET, content.getvalue())
    print(f"{TARGET}: {len(content.getvalue()):,} bytes, checkpoint {selected.path}")


if __name__ == "__main__":
    main()
