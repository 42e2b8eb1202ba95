"""Draw docs/images/demo_triplets.png from the demo's own samples: render, refined, target, reference.

Run it after `make demo`, with the environment's Python: `.venv/bin/python scripts/draw_demo_triplets.py`.
"""

from pathlib import Path

import torch

from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.images.codecs import read_rgb
from thesis_assets.images.contact_sheet import contact_sheet
from thesis_assets.images.quantise import quantise, to_host
from thesis_assets.layout import SampleId
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.settings import Settings
from thesis_assets.storage import read_json, write_bytes
from thesis_assets.tuning.refine import load_refiner

SHOWN = (
    SampleId("studio_pair02_hug", 28, 16, "000003", "000003"),
    SampleId("studio_pair02_hug", 4, 16, "000008", "000008"),
    SampleId("studio_pair03_dance", 28, 16, "000002", "000002"),
    SampleId("studio_pair03_dance", 40, 16, "000009", "000009"),
)
TARGET = Path(__file__).parents[1] / "docs" / "images" / "demo_triplets.png"


def main() -> None:
    """Draw the sheet with the first run's selected checkpoint."""
    platform = Platform(Settings())
    tree = platform.difix(Cell("demo"))
    run_name = next(iter(platform.experiments.read("demo").runs))
    selected = read_json(tree.tuning_run(run_name).selected_checkpoint, SelectedCheckpoint)
    refiner = load_refiner(Path(selected.path), "cpu")
    rows = []
    for sample in SHOWN:
        render, target, reference = (
            read_rgb(path) for path in (tree.image(sample), tree.target_image(sample), tree.ref_image(sample))
        )
        batch = [torch.tensor(image).permute(2, 0, 1)[None].float() / 255 for image in (render, reference)]
        refined = to_host(quantise(refiner.refine(*batch)))[0]
        rows.append([render, refined, target, reference])
    sheet = contact_sheet(
        rows,
        row_titles=[f"{sample.scene_name}, camera {sample.target_cam_id}" for sample in SHOWN],
        column_titles=["render", "refined", "target", "reference"],
        cell_height=160,
        max_bytes=None,
        encoding="png",
    )
    write_bytes(TARGET, sheet)
    print(f"{TARGET}: {len(sheet):,} bytes, checkpoint {selected.path}")


if __name__ == "__main__":
    main()
