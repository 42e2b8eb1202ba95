"""How many files and bytes a cell of an asset fills on disk."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from thesis_assets.defs.graph import NODES
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.storage import read_jsonl


def _sample_folders(platform: Platform, cell: Cell) -> Iterable[Path]:
    tree = platform.difix(cell)
    shard = tree.scene_run(cell.scene_name)
    if shard.all_samples.is_file():
        yield from (tree.samples_dir / row["sample_id"] for row in read_jsonl(shard.all_samples))
    yield shard.base


def _run_folders(platform: Platform, cell: Cell) -> Iterable[Path]:
    run = platform.difix(cell).tuning_run(cell.run_name)
    return (run.checkpoints_dir, run.eval_dir, run.logs_dir, run.train_config, run.job)


def _task_folders(*parts: str) -> Callable[[Platform, Cell], Iterable[Path]]:
    """Folders `evaluation/epoch_*/<task>/<part>` of every evaluated scene."""

    def folders(platform: Platform, cell: Cell) -> Iterable[Path]:
        for tree in platform.evaluation_trees(cell).values():
            for part in parts:
                yield from tree.evaluation_dir.glob(f"epoch_*/{part}")

    return folders


FOLDERS: dict[str, Callable[[Platform, Cell], Iterable[Path]]] = {
    "scene_samples": _sample_folders,
    "tuned_checkpoint": _run_folders,
    "input_data": lambda platform, cell: [t.input_data_dir for t in platform.evaluation_trees(cell).values()],
    "predictions": _task_folders("nvs/inputs"),
    "nvs": _task_folders("nvs/pred", "nvs/gt_inputs", "nvs/metrics", "nvs/viz"),
    "pose_smplx": _task_folders("pose_smplx"),
    "pose_smpl": _task_folders("pose_smpl"),
}


def footprint(platform: Platform, asset: str, cell: Cell) -> tuple[int, int]:
    """Number of files and their bytes. A hard link counts with its full size, as a listing shows it."""
    count = size = 0
    for path in FOLDERS.get(asset, NODES[asset].outputs)(platform, cell):
        for file in _files(path):
            count += 1
            size += file.stat().st_size
    return count, size


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
