"""A found snapshot and its run under our names: every cell of it has its record, and is as one would ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from thesis_assets.adoption.planned import PlannedExperiment, plan
from thesis_assets.adoption.scan import scan
from thesis_assets.adoption.writing import adopt_run, adopt_snapshot
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import AdoptedTrees, DifixTree
from thesis_assets.provenance import Unit
from thesis_assets.samples.shards import sample_set_unit, shard_unit
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.splits.data_json import data_json_unit
from thesis_assets.splits.manifests import split_unit
from thesis_assets.splits.snapshot_guard import guard_snapshot
from thesis_assets.tuning.run_record import checkpoint_unit
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
