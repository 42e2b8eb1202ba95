"""What each step made of the small world when its code version was set: a change of one without the other is a mistake.

python -m thesis_assets_tests.goldens     writes goldens.json anew, after a code version was raised
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES, records_of
from thesis_assets.images.codecs import read_rgb
from thesis_assets.schemas.evaluation import parse_results
from thesis_assets_tests.worlds import SCENES, SMALL, World, read_json

GOLDENS = Path(__file__).with_name("goldens.json")
EVALUATED = SCENES[3]
"""The reserved scene, which the small experiment is evaluated on."""

Golden = dict[str, Any]
"""`code_version` and `values`: numbers that hold on every machine to a thousandth, and texts that hold exactly."""


def golden_outputs(world: World) -> dict[str, Golden]:
    """Of every step with a record: its code version, and what it made, in a few values."""
    values = _values(world)
    return {
        asset: {"code_version": _code_version(world, asset), "values": values[asset]}
        for asset in NODES
        if asset in values
    }


def _code_version(world: World, asset: str) -> str:
    kind = NODES[asset].kind
    cells = {
        "exp_by_scene": Cell("small", scene_name=EVALUATED),
        "exp": Cell("small"),
        "exp_by_run": world.cell(),
        "none": Cell(),
    }
    (version,) = {
        record.code_version for record in records_of(world.platform, asset, cells[kind]) if record.step == asset
    }
    return version


def _values(world: World) -> dict[str, dict[str, float | str]]:
    difix, cell = world.platform.difix(Cell("small")), world.cell()
    run, tree = difix.tuning_run("r1"), world.platform.tree(cell, EVALUATED)
    last = tree.task(1, "nvs")
    return {
        "scene_samples": _images(path / "image.png" for path in sorted(difix.samples_dir.iterdir())[:3]),
        "sample_set": {"rows": _sha256(difix.all_samples)},
        "split_manifests": {"train": _sha256(difix.split_train), "test": _sha256(difix.split_test)},
        "difix_data": {"relative": _digest(difix.data_json.read_text().replace(str(difix.base), ""))},
        "tuned_checkpoint": {"loss": _last_loss(run.eval_dir)},
        "selected_checkpoint": {"step": float(read_json(run.selected_checkpoint)["step"])},
        "input_data": {"names": _names(tree.input_data_dir)},
        "predictions": _images(sorted(last.inputs_dir.rglob("render/*.png"))[:3]),
        "nvs": dict(parse_results(last.nvs_results.read_text())),
        "pose_smplx": dict(parse_results(tree.task(1, "pose_smplx").pose_results.read_text())),
        "pose_smpl": dict(parse_results(tree.task(1, "pose_smpl").pose_results.read_text())),
        "evaluation_manifest": {"manifest": _digest(json.dumps(read_json(tree.manifest), sort_keys=True))},
    }


def _images(paths: Any) -> dict[str, float | str]:
    """Mean of all pixels of each image, by its name."""
    return {f"{path.parent.name}/{path.name}": round(float(read_rgb(path).mean()), 3) for path in paths}


def _last_loss(folder: Path) -> float:
    rows = sorted(folder.glob("metrics_*.csv"), key=lambda path: int(path.stem.rpartition("_")[2]))[-1].read_text()
    header, *lines = (line.split(",") for line in rows.splitlines())
    column = header.index("psnr_refined")
    return round(sum(float(line[column]) for line in lines) / len(lines), 3)


def _names(folder: Path) -> str:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return _digest("\n".join(sorted(name for name in names if "made_from" not in name)))


def _sha256(path: Path) -> str:
    return _digest(path.read_text())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write() -> None:
    from thesis_assets.demo.studio import make_studio
    from thesis_assets.demo.studio_people import SCENES as CAST
    from thesis_assets_tests.worlds import N_FRAMES, SIZE

    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder, "home"), Path(folder, "scenes"))
        chosen = [scene for scene in CAST if scene.name in SCENES]
        make_studio(world.platform.roots, lambda line: None, scenes=chosen, size=SIZE, n_frames=N_FRAMES)
        world.write(SMALL)
        assert world.run().exit_code == 0
        GOLDENS.write_text(json.dumps(golden_outputs(world), indent=2) + "\n")


if __name__ == "__main__":
    _write()
