"""Every check fails on a fault planted for it, prints what mends it, and is green once that very command was given."""

import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from thesis_assets.definitions import build_defs
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import NODES
from thesis_assets.images.codecs import encode_jpeg, read_rgb
from thesis_assets.layout import EvaluationTree
from thesis_assets.operations.execution import make_checks
from thesis_assets.schemas.checks import CheckRow, Remedy
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.defs.sensor_ticks import experiment
from thesis_assets_tests.worlds import World

pytestmark = pytest.mark.long

Plant = Callable[[World], object]
"""A fault in the small world that was run to its end, or, where a person has to act first, that act."""
SMALL, R1 = Cell("small"), Cell("small", run_name="r1")


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    """A file of its own: it may be a hard link of several trees."""
    content = path.read_bytes()
    changed = change(content)
    assert changed != content
    path.unlink()
    path.write_bytes(changed)


def halved(path: Path) -> None:
    rewritten(path, lambda content: content[: len(content) // 2])


def data(world: World) -> Any:
    return world.platform.difix(SMALL)


def run(world: World) -> Any:
    return data(world).tuning_run("r1")


def evaluated(world: World) -> EvaluationTree:
    (tree,) = world.platform.evaluation_trees(R1).values()
    return tree


def sample(world: World, number: int) -> Path:
    return sorted(path for path in data(world).samples_dir.iterdir())[number]


def leaked(world: World) -> None:
    """A row of a reserved person in training."""
    row = next(line for line in data(world).split_test.read_text().splitlines(keepends=True) if "pair03" in line)
    rewritten(
        data(world).split_train, lambda content: b"".join(sorted([*content.splitlines(keepends=True), row.encode()]))
    )


def stray(world: World) -> None:
    shutil.copytree(
        sample(world, 0), data(world).samples_dir / "studio_pair00_dance__tcam4__rccam16__tf000099__rf000099"
    )


def another_picture(world: World) -> None:
    task = evaluated(world).task(1, "nvs")
    truth = next(task.gt_inputs_dir.rglob("*.png")).read_bytes()
    for path in task.pred_dir.rglob("*.png"):
        rewritten(path, lambda _: truth)


def other_data(world: World) -> None:
    sha256 = json.loads(run(world).checkpoint_info(4).read_text())["data_json_sha256"].encode()
    rewritten(run(world).checkpoint_info(4), lambda content: content.replace(sha256, b"0" * 64))


def input_recording(world: World) -> Path:
    return next(evaluated(world).base.rglob("input_data*.rrd"))


def another_recording(world: World) -> None:
    other = input_recording(world).read_bytes()
    rewritten(evaluated(world).evaluation_recording(1), lambda _: other)


DATA: Mapping[str, Plant] = {
    "sample_set.every_sample_complete": lambda world: (sample(world, 1) / "ref_image.jpg").unlink(),
    "split_manifests.group_non_leakage": leaked,
    "split_manifests.reserved_scenes_not_in_train": lambda world: None,
    "split_manifests.splits_partition_all_samples": lambda world: None,
    "difix_data.data_json_matches_manifests": lambda world: rewritten(
        data(world).data_json, lambda content: content.replace(b"tcam", b"tcem", 1)
    ),
}
EMPTIED: Mapping[str, Plant] = {
    "split_manifests.splits_not_empty": lambda world: rewritten(data(world).split_test, lambda _: b""),
    "sample_set.manifest_matches_disk": stray,
}
TRAINING: Mapping[str, Plant] = {
    "tuned_checkpoint.checkpoint_loads": lambda world: halved(run(world).checkpoint(4)),
    "tuned_checkpoint.checkpoint_belongs_to_data": other_data,
}
CONFIGURATION: Mapping[str, Plant] = {
    "tuned_checkpoint.train_config_complete": lambda world: rewritten(
        run(world).train_config, lambda content: content.replace(b'"flags"', b'"flagged"')
    ),
    "input_data.input_data_clean": lambda world: (evaluated(world).base / "input_data/train/est_debug").mkdir(),
}
NUMBERS: Mapping[str, Plant] = {
    "nvs.nvs_required_files": lambda world: evaluated(world).task(0, "nvs").nvs_per_camera.unlink(),
    "pose_smplx.pose_smplx_required_files": lambda world: shutil.rmtree(
        evaluated(world).task(1, "pose_smplx").metrics_dir
    ),
    "pose_smpl.pose_smpl_required_files": lambda world: shutil.rmtree(
        evaluated(world).task(1, "pose_smpl").metrics_dir
    ),
    "evaluation_manifest.manifest_matches_disk": lambda world: rewritten(
        evaluated(world).manifest, lambda content: content.replace(b'"nvs"', b'"nvz"', 1)
    ),
    "evaluation_manifest.layout_version_is_v1": lambda world: rewritten(
        evaluated(world).manifest, lambda content: content.replace(b'"v1"', b'"v2"')
    ),
    "evaluation_manifest.metrics_recompute": another_picture,
}
RECORDINGS: Mapping[str, Plant] = {
    "triplet_recording.recording_follows_contract": lambda world: halved(next(run(world).base.rglob("triplets.rrd"))),
    "input_data_recording.recording_follows_contract": lambda world: halved(input_recording(world)),
    "evaluation_recordings.recording_verifies": lambda world: halved(evaluated(world).evaluation_recording(0)),
    "evaluation_recordings.recording_follows_contract": lambda world: None,
    "evaluation_recordings.recording_is_current": lambda world: None,
}
FIRST: Mapping[str, Plant] = {
    "tuned_checkpoint.train_config_complete": lambda world: run(world).train_config.unlink(),
    "input_data.input_data_clean": lambda world: (evaluated(world).base / "input_data/train/est_debug").rmdir(),
}
"""What the words before the commands have a person do."""
OPEN = {
    "sample_set.generation_config_unchanged",
    "sample_set.dropped_share_below",
    "split_manifests.near_duplicates_across_splits",
}
"""Of an open experiment, below."""
BY_A_PERSON = {
    "split_manifests.reserved_scenes_exist": "correct the names",
    "split_manifests.group_rule_splits_people": "split.group_rules",
    "split_manifests.photographs_across_splits": "leave one of the two scenes out",
    "tuned_checkpoint.loss_is_finite": "a lower rate",
    "selected_checkpoint.selection_disjoint_from_evaluation": "selection.groups",
    "selected_checkpoint.improves_over_input": "no file is at fault",
    "nvs.lpips_present": "make lpips",
    "evaluation_manifest.evaluated_people_unseen": "evaluation.scenes",
    "evaluation_manifest.upstream_saw_evaluated_people": "its entry in the folder of models",
    "evaluation_recordings.recording_within_size_budget": "THESIS_SPLIT_RECORDING_MB",
}
"""The file, the machine or the training itself is wrong: what a person decides, by a word of it."""
GROUPS = (DATA, EMPTIED, TRAINING, CONFIGURATION, NUMBERS, RECORDINGS)


def outcomes(world: World, checks: set[str], exp_name: str = "small") -> dict[str, CheckRow]:
    """These checks, made now, as the check page has them."""
    definitions = build_defs(settings=world.settings)
    with world.instance() as instance:
        for asset in dict.fromkeys(name.partition(".")[0] for name in checks):
            cell = Cell(exp_name) if NODES[asset].kind == "exp" else Cell(exp_name, run_name="r1")
            make_checks(definitions, instance, asset, cell, CHECKS[asset])
        found = {f"{row.asset}.{row.check}": row for row in check_rows(instance)}
    # As a person reads them, upstream first: what stands above keeps what is below from being made.
    every = [f"{asset}.{name}" for asset, names in CHECKS.items() for name in names]
    return {name: found[name] for name in every if name in checks}


def give(monkeypatch: pytest.MonkeyPatch, world: World, remedies: list[Remedy]) -> None:
    """Each command once, in the order in which they are printed."""
    for command in dict.fromkeys(command for remedy in remedies for command in remedy.commands):
        done = invoke(monkeypatch, world, *shlex.split(command)[1:])
        assert done.exit_code == 0, (command, done.output, done.stderr)


def test_every_check_is_failed_and_mended_here_or_tells_a_person_what_to_do() -> None:
    planted = [name for group in GROUPS for name in group]
    every = {f"{asset}.{name}" for asset, names in CHECKS.items() for name in names}
    assert sorted([*planted, *OPEN, *BY_A_PERSON]) == sorted(every)
    for name, word in BY_A_PERSON.items():
        asset, _, check = name.partition(".")
        assert word in CHECKS[asset][check].first, name


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(DATA, id="data"),
        pytest.param(EMPTIED, id="emptied"),
        pytest.param(CONFIGURATION, id="configuration"),
        pytest.param(RECORDINGS, id="recordings"),
        # Those of `test_planted_faults` mend a table, a picture and a checkpoint at every run of the tests.
        pytest.param(TRAINING, id="training", marks=pytest.mark.soak),
        pytest.param(NUMBERS, id="numbers", marks=pytest.mark.soak),
    ],
)
def test_the_commands_beside_failed_checks_make_them_pass(
    finished_world_to_change: World, monkeypatch: pytest.MonkeyPatch, group: Mapping[str, Plant]
) -> None:
    world = finished_world_to_change
    for plant in group.values():
        plant(world)
    failed = outcomes(world, set(group))
    assert {name: row.status for name, row in failed.items() if row.status == "passed"} == {}, "a fault is not seen"
    for name in group:
        if name in FIRST:
            assert failed[name].remedy.first
            FIRST[name](world)
    give(monkeypatch, world, [row.remedy for row in failed.values()])
    mended = outcomes(world, set(group))
    assert {name: row.message for name, row in mended.items() if row.status != "passed"} == {}


# --- an open experiment: what is at fault is its file, or a scene ----------------------------------------------------


@pytest.fixture
def world(data_of_scenes: Callable[[int], World]) -> World:
    """Three scenes up to `data.json`, without a run that a remedy would train: nothing is frozen."""
    made = data_of_scenes(3)
    made.write(experiment("v1"))
    return made


def test_another_generation_section_is_mended_by_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sample_set.generation_config_unchanged"
    world.write(experiment("v1", generation={"frames": {"stride": 2}}))
    remedy = outcomes(world, {name}, "v1")[name].remedy
    give(monkeypatch, world, [remedy])
    assert outcomes(world, {name}, "v1")[name].status == "passed"
    config = world.platform.difix(Cell("v1")).generation_config
    rewritten(config, lambda content: content.replace(b"stride: 2", b"stride: 3"))
    row = outcomes(world, {name}, "v1")[name]
    assert row.status == "failed"
    assert "remove it" in row.remedy.first
    config.unlink()
    give(monkeypatch, world, [row.remedy])
    assert outcomes(world, {name}, "v1")[name].status == "passed"
    assert yaml.safe_load(config.read_text())["resolved"]["frames"]["stride"] == 2


def test_dropped_samples_come_back_once_their_scene_is_mended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sample_set.dropped_share_below"
    images = world.platform.roots.tree("hi4d_pair01_hug").ground_truth.image(16, "000000")
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    world.run("v1", until="difix_data")
    row = outcomes(world, {name}, "v1")[name]
    assert row.status == "warning", row
    images.write_bytes(whole)  # as the words say: mend those scenes
    give(monkeypatch, world, [row.remedy])
    assert outcomes(world, {name}, "v1")[name].status == "passed"


def test_one_capture_under_two_names_is_given_one_group(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "split_manifests.near_duplicates_across_splits"
    for path in world.platform.roots.tree("hi4d_pair01_hug").ground_truth.images_dir.rglob("*.jpg"):
        path.write_bytes(
            encode_jpeg(np.ascontiguousarray(read_rgb(path)[::-1, ::-1]))
        )  # the one that shows something else
    world.run("v1", until="difix_data")
    row = outcomes(world, {name}, "v1")[name]
    assert (row.status, row.n_offenders) == ("warning", 1)
    assert "hold out both groups" in row.remedy.first
    rules = {"test_groups": {"hi4d": ["pair0"]}, "group_rules": {"hi4d": "^hi4d_(pair0(?=[02])|pair01)"}}
    world.write(experiment("v1") | {"split": rules})
    give(monkeypatch, world, [row.remedy])
    assert outcomes(world, {name}, "v1")[name].status == "passed"
