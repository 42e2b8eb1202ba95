"""A found snapshot and its run under our names: every cell of it has its record, and is as one would ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.adoption.planned import PlannedExperiment, plan
from thesis_assets.adoption.scan import Findings, scan
from thesis_assets.adoption.writing import adopt_run, adopt_snapshot
from thesis_assets.errors import SnapshotChanged
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import AdoptedTrees, DifixTree
from thesis_assets.provenance import Unit, read_record
from thesis_assets.samples.shards import sample_set_unit, shard_unit
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.splits.data_json import data_json_unit
from thesis_assets.splits.manifests import split_unit
from thesis_assets.splits.snapshot_guard import guard_snapshot
from thesis_assets.tuning.run_checks import checkpoint_belongs_to_data, checkpoint_loads, train_config_complete
from thesis_assets.tuning.run_config import lock_config, read_config
from thesis_assets.tuning.run_record import checkpoint_place, checkpoint_unit
from thesis_assets.tuning.take_pretrained import find_source
from thesis_assets_tests.adoption.older_trees import TEST, TRAIN, write_old_snapshot
from thesis_assets_tests.splits.snapshots import copied_without_times

RUN = "lr2e5"


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    """Of scenes of one photograph each."""
    roots = SceneRoots(*(tmp_path / name for name in ("gt", "estimated", "registry", "renders")))
    for scene in (TRAIN, TEST):
        image = roots.tree(scene).ground_truth.image(4, "000000")
        image.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(image)
    return roots


def taken_in(tmp_path: Path, roots: SceneRoots) -> tuple[DifixTree, ExperimentSpec]:
    findings = scan(tmp_path / "old")
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), {})
    spec = ExperimentSpec.model_validate({"exp_name": "v0", **planned.value})
    tree = DifixTree(tmp_path / "data", "v0")
    adopt(planned, spec, tree, roots)
    return tree, spec


def adopt(planned: PlannedExperiment, spec: ExperimentSpec, tree: DifixTree, roots: SceneRoots) -> None:
    assert planned.snapshot is not None
    adopt_snapshot(planned.snapshot, planned.rows, spec, tree, roots, lambda _: None)
    for run in planned.runs:
        adopt_run(run, tree, lambda _: None)


def units(tree: DifixTree, spec: ExperimentSpec, roots: SceneRoots) -> Iterator[Unit]:
    """In the order of the graph; each asked when it is looked at."""
    for scene, group in ((TRAIN, "pair00"), (TEST, "pair02")):
        yield shard_unit(tree, roots, scene, spec.generation, group)
    yield sample_set_unit(tree, [TRAIN, TEST])
    yield split_unit(tree, spec.split)
    yield data_json_unit(tree, spec.generation.export.prompt)
    yield checkpoint_unit(tree, RUN, spec.runs[RUN])


def test_every_cell_of_an_adopted_snapshot_is_made_here_and_after_a_move(tmp_path: Path, roots: SceneRoots) -> None:
    write_old_snapshot(tmp_path / "old")
    tree, spec = taken_in(tmp_path, roots)
    assert [unit.look().in_words for unit in units(tree, spec, roots)] == ["made"] * 6
    there = copied_without_times(tree, tmp_path / "elsewhere")
    guard_snapshot(there, spec.split)
    assert [unit.look().in_words for unit in units(there, spec, roots)] == ["made"] * 6


def test_a_photograph_that_was_missing_is_missing_and_not_taken_for_made(tmp_path: Path, roots: SceneRoots) -> None:
    old = write_old_snapshot(tmp_path / "old")
    next(old.glob(f"samples/{TRAIN}*/ref_image.jpg")).unlink()
    tree, spec = taken_in(tmp_path, roots)
    shard = next(iter(units(tree, spec, roots))).look()
    assert shard.state == "missing"
    assert shard.missing[0].endswith("ref_image.jpg")


def test_an_adopted_image_that_was_overwritten_is_damaged(tmp_path: Path, roots: SceneRoots) -> None:
    write_old_snapshot(tmp_path / "old")
    tree, spec = taken_in(tmp_path, roots)
    image = next(tree.samples_dir.glob(f"{TRAIN}*/image.png"))
    image.unlink()
    image.write_bytes(b"another")
    assert next(iter(units(tree, spec, roots))).look().damaged == (tree.relative(image),)


CONFIGURATION = """\
model: {base_model_id: /models/difix_ref, report_to: wandb}
paths: {root: /scratch/me, log: "${root}/logs", cache: "${oc.env:SUCH_A_PLACE}/hub"}
train:
  max_train_steps: 4
  checkpointing_steps: 2
  learning_rate: 3.0e-5
  seed: 7
  gradient_clipping: true
  extra_args: ["--lambda_gram", "0.5", "--lora_rank_vae=8"]
"""


def configured(tmp_path: Path, roots: SceneRoots, text: str | None) -> tuple[DifixTree, ExperimentSpec, Findings]:
    """The snapshot with this `meta/run_config.yaml` of its run, taken in."""
    config = write_old_snapshot(tmp_path / "old") / "tuning_runs" / RUN / "meta" / "run_config.yaml"
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    findings = scan(tmp_path / "old")
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), {})
    spec = ExperimentSpec.model_validate({"exp_name": "v0", **planned.value})
    tree = DifixTree(tmp_path / "data", "v0")
    adopt(planned, spec, tree, roots)
    return tree, spec, findings


def test_of_a_run_all_that_its_configuration_says_is_kept_and_nothing_else_is_asserted(
    tmp_path: Path, roots: SceneRoots
) -> None:
    tree, spec, findings = configured(tmp_path, roots, CONFIGURATION)
    config = read_config(tree.tuning_run(RUN))
    stated = {name: value for name, value in config.flags.items() if value is not None}
    assert stated == {
        "base_model_id": "/models/difix_ref",
        "report_to": "wandb",
        "root": "/scratch/me",
        "log": "/scratch/me/logs",
        "max_train_steps": 4,
        "checkpointing_steps": 2,
        "learning_rate": 3e-5,
        "seed": 7,
        "gradient_clipping": True,
        "extra_args": ["--lambda_gram", "0.5", "--lora_rank_vae=8"],
    }
    assert {config.flags[name] for name in ("mv_unet", "timestep", "resolution", "mixed_precision", "cache")} == {None}
    assert (config.seed, config.device, config.versions, config.git_revision) == (7, None, {}, None)
    assert "`paths.cache` cannot be resolved" in "\n".join(map(str, findings.complaints))
    run = spec.runs[RUN]
    assert (run.saved_steps(), run.max_train_steps, run.model) == ([1, 3], 4, "/models/difix_ref")
    assert run.extra_args == ("--lambda_gram", "0.5", "--lora_rank_vae=8")
    record = read_record(checkpoint_place(tree, RUN))
    assert record is not None
    assert "mv_unet" not in record.options["runs"][RUN]
    assert "null" in tree.tuning_run(RUN).train_config.read_text()
    assert "not recorded" not in tree.tuning_run(RUN).train_config.read_text()


def test_a_run_without_a_configuration_has_no_settings_at_all(tmp_path: Path, roots: SceneRoots) -> None:
    tree, spec, _ = configured(tmp_path, roots, None)
    config = read_config(tree.tuning_run(RUN))
    assert set(config.flags.values()) == {None}
    assert config.seed is None
    assert spec.runs[RUN].model is None
    for check in (train_config_complete, checkpoint_belongs_to_data, checkpoint_loads):
        assert check(tree, RUN).passed, check(tree, RUN)


def test_a_training_that_was_ended_early_is_not_said_to_have_been_that_short(tmp_path: Path, roots: SceneRoots) -> None:
    tree, spec, findings = configured(
        tmp_path, roots, CONFIGURATION.replace("max_train_steps: 4", "max_train_steps: 10000")
    )
    assert read_config(tree.tuning_run(RUN)).flags["max_train_steps"] == 10_000
    assert spec.runs[RUN].saved_steps() == [1, 3]
    assert "max_train_steps is 10000, and the last checkpoint is of step 3" in "\n".join(map(str, findings.complaints))


def test_words_of_a_configuration_are_no_values_of_settings(tmp_path: Path, roots: SceneRoots) -> None:
    text = "train: {resolution: not recorded, timestep: unknown, extra_args: '--a 1 --b'}\n"
    tree, _, findings = configured(tmp_path, roots, text)
    config = read_config(tree.tuning_run(RUN))
    assert (config.flags["resolution"], config.flags["timestep"]) == (None, None)
    assert config.flags["extra_args"] == ["--a", "1", "--b"]
    assert "`resolution`: " in "\n".join(map(str, findings.complaints))


def test_an_adopted_run_is_neither_gone_on_with_nor_trained_anew_under_its_name(
    tmp_path: Path, roots: SceneRoots
) -> None:
    tree, _, _ = configured(tmp_path, roots, CONFIGURATION)
    present = read_config(tree.tuning_run(RUN))
    with pytest.raises(SnapshotChanged, match="was adopted"):
        lock_config(tree, present.model_copy(update={"launch_command": ["python", "train.py"]}))
    assert read_config(tree.tuning_run(RUN)) == present


def test_the_base_model_that_a_configuration_names_is_the_one_that_its_checkpoints_are_read_with(
    tmp_path: Path, roots: SceneRoots
) -> None:
    tree, _, _ = configured(tmp_path, roots, CONFIGURATION)
    assert find_source(str(tree.tuning_run(RUN).checkpoint(3))).base_model == "/models/difix_ref"


def test_a_configuration_of_this_platform_keeps_what_it_says_of_device_and_versions(
    tmp_path: Path, roots: SceneRoots
) -> None:
    tree, _, _ = configured(tmp_path, roots, CONFIGURATION)
    first = read_config(tree.tuning_run(RUN))
    ours = first.model_copy(update={"launch_command": ["python"], "device": "cuda", "versions": {"torch": "2.5"}})
    moved = tmp_path / "theirs" / "v0"
    copied_without_times(tree, tmp_path / "theirs")
    storage.write_json(DifixTree(moved.parent, "v0").tuning_run(RUN).train_config, ours)
    findings = scan(tmp_path / "theirs")
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), {})
    tree = DifixTree(tmp_path / "again", "v0")
    adopt(planned, ExperimentSpec.model_validate({"exp_name": "v0", **planned.value}), tree, roots)
    config = read_config(tree.tuning_run(RUN))
    assert (config.is_adopted, config.device, config.versions) == (True, "cuda", {"torch": "2.5"})
    assert {name: value for name, value in config.flags.items() if name != "backend"} == first.flags
