"""A small snapshot on disk, complete enough to be guarded, frozen and trained on, and the flags of a short run over it."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thesis_assets.experiments.spec import RunSpec, SplitSpec
from thesis_assets.layout import DifixTree, SampleId, TuningRunTree
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.samples.shards import SampleSet, write_sample_set
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.splits.data_json import content_of_file, write_data_json
from thesis_assets.splits.manifests import group_finder, split_rows, write_split_manifests
from thesis_assets.tuning.run_config import lock_config, make_config, parse_flags

SIZE = 32
SPLIT = SplitSpec(test_groups={"studio": ("pair02", "pair03")})
SCENES = ("studio_pair00_dance", "studio_pair01_hug", "studio_pair02_hug", "studio_pair03_dance")


def write_snapshot(
    root: Path, *, split: SplitSpec = SPLIT, size: int = SIZE, scenes: Sequence[str] = SCENES
) -> DifixTree:
    """Two cameras and two frames a scene; a render is its target, darker and noisy."""
    tree = DifixTree(root, "v1")
    group_of = group_finder(split.group_rules)
    rows = [
        row_of(SampleId(scene, camera, 16, f"{frame:06d}", f"{frame:06d}"), group_of(scene)[1])
        for scene in scenes
        for camera in (4, 28)
        for frame in range(2)
    ]
    rows.sort(key=lambda row: row.sample_id)
    for number, row in enumerate(rows):
        write_sample(tree, row, number, size)
    result = split_rows(rows, split, group_of)
    write_sample_set(tree, SampleSet(rows, [], []))
    write_split_manifests(tree, rows, result, split, [], [])
    write_data_json(tree, result.train, result.test, "remove degradation")
    return tree


def write_sample(tree: DifixTree, row: SampleRow, number: int, size: int) -> None:
    random = np.random.default_rng(number)
    y, x = np.mgrid[0:size, 0:size] / size
    target = np.stack([np.sin(6 * x + number), np.cos(5 * y - number), np.sin(4 * (x + y))], axis=-1) * 0.4 + 0.5
    render = np.clip(target * 0.7 + random.normal(0, 0.03, target.shape), 0, 1)
    folder = tree.samples_dir / row.sample_id
    folder.mkdir(parents=True)
    for name, image in (("image.png", render), ("target_image.jpg", target), ("ref_image.jpg", target[:, ::-1])):
        Image.fromarray((image * 255).astype(np.uint8)).save(folder / name, quality=95)
    (folder / "meta.json").write_text("{}")


def train_run(tree: DifixTree, run_name: str, **changes: Any) -> None:
    """A whole tiny run of 20 steps with its configuration, saved at 10 and 20."""
    flags = arguments(
        tree, run_name, **{"max_train_steps": 20, "checkpointing_steps": 10, "num_processes": 1, **changes}
    )
    config = make_config(
        tree,
        run_name,
        backend="tiny",
        flags=parse_flags(flags),
        notes=[],
        command=["trainer"],
        device="cpu",
        data_json_sha256=content_of_file(tree.data_json).sha256,
        manifest_sha256={"all_samples.jsonl": "x"},
        n_train=8,
        n_test=8,
    )
    lock_config(tree, config)
    assert train(flags) == 0


def make_config_file(flags: dict[str, Any]) -> TrainConfig:
    """The `train_config.json` of a run somewhere, with these flags."""
    empty = dict.fromkeys(("exp_name", "run_name", "backend", "hyperparameter_digest", "device"), "")
    return TrainConfig.model_validate(
        {
            **empty,
            **{"flags": flags, "launch_command": [], "seed": 1, "versions": {}, "git_revision": None},
            **{
                "data_json": "",
                "data_json_sha256": "",
                "manifest_sha256": {},
                "n_train_samples": 1,
                "n_test_samples": 0,
            },
        }
    )


def make_run(**changes: Any) -> RunSpec:
    """Six steps, saved and evaluated at each third."""
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "max_train_steps": 6,
        "checkpointing_steps": 3,
        "eval_freq": 3,
        "resolution": SIZE,
        "train_batch_size": 2,
        "dataloader_num_workers": 0,
        "mixed_precision": "no",
        "tracker": {"kind": "none"},
    }
    return RunSpec.model_validate({**values, **changes})


def arguments(tree: DifixTree, run_name: str, **changes: Any) -> list[str]:
    """The trainer's command line for `make_run` with changed flags; None leaves a flag out."""
    flags: dict[str, Any] = {
        "dataset_path": tree.data_json,
        "output_dir": tree.tuning_run(run_name).base,
        "tracker_run_name": run_name,
        "learning_rate": 1e-3,
        "max_train_steps": 6,
        "checkpointing_steps": 3,
        "eval_freq": 3,
        "resolution": SIZE,
        "train_batch_size": 2,
        **changes,
    }
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def train(command_line: Sequence[str]) -> int:
    """The tiny trainer in this process. Returns its exit status."""
    from thesis_assets.tuning.backends import TINY
    from thesis_assets.tuning.trainer_program import main

    return main(command_line, TINY)


def stopping_at(patch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Have the trainer of this process asked to stop while it makes `step`."""
    from thesis_assets.tuning.progress_file import TrainerReport

    update = TrainerReport.update

    def interrupted(self: Any, done: int, **numbers: Any) -> None:
        update(self, done, **numbers)
        if done == step:
            os.kill(os.getpid(), number)

    patch.setattr(TrainerReport, "update", interrupted)


def same_state(one: TuningRunTree, other: TuningRunTree, step: int) -> bool:
    """Whether two checkpoints hold the same tensors and numbers, to the bit."""
    from thesis_assets.tuning.checkpoints import load_checkpoint

    return equal(load_checkpoint(one.checkpoint(step)), load_checkpoint(other.checkpoint(step)))


def equal(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
