"""Whether a model that a run builds on had seen the people that are evaluated."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from thesis_assets.evaluation.upstream import (
    UpstreamModel,
    check_upstream_unseen,
    model_id_of,
    names_of_scene,
    upstream_models,
)
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.graph.checks import CHECKS
from thesis_assets.layout import DifixTree, ModelLedger
from thesis_assets.operations.check_outcomes import outcome_of, outcomes_of
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.models import ModelEntry
from thesis_assets_tests.evaluation.test_evaluated_people_unseen import photographed_as
from thesis_assets_tests.worlds import SMALL, World

NAME = "upstream_saw_evaluated_people"


def model(**trained_on: str | list[str]) -> UpstreamModel:
    return UpstreamModel(
        "m", "base model", ModelEntry.model_validate({"trained_on": trained_on, "source": "s"}), "m.yaml"
    )


def roots(base: Path) -> SceneRoots:
    return SceneRoots(*(base / name for name in ("canonical_gt", "preprocessing", "scenes", "renders")))


# --- one and the same people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained_on", "rules"),
    [
        ({"hi4d": ["pair17"]}, {}),
        ({"hi4d": ["Pair17"]}, {}),
        ({"HI4D": ["hi4d_pair17_hug"]}, {}),
        ({"hi4d": "*"}, {}),
        ({"hi4d": ["pair01", "*"]}, {}),
        ({"hi4d": ["pair17"]}, {"hi4d": r"^hi4d_pair(\d+)_"}),
        ({"hi4d": ["17"]}, {"hi4d": r"^hi4d_pair(\d+)_"}),
        ({"hi4d": ["pair17"]}, {"hi4d": "scene_name"}),
        ({"hi4d": ["hi4d_pair17_hug"]}, {"hi4d": "scene_name"}),
    ],
)
def test_people_are_told_by_the_group_rules(trained_on: dict[str, Any], rules: dict[str, str]) -> None:
    assert model(**trained_on).saw("hi4d_pair17_fight", rules)


@pytest.mark.parametrize(
    ("trained_on", "rules"),
    [
        ({"hi4d": ["pair1", "pair170", "17"]}, {}),
        ({"studio": ["pair17"]}, {}),
        ({"hi4d": []}, {}),
        ({"hi4d": ["hi4d_pair18_fight"]}, {"hi4d": r"^hi4d_pair(\d+)_"}),
    ],
)
def test_other_people_are_others(trained_on: dict[str, Any], rules: dict[str, str]) -> None:
    assert not model(**trained_on).saw("hi4d_pair17_fight", rules)


def test_a_scene_whose_folder_is_a_link_is_also_the_scene_that_it_leads_to(tmp_path: Path) -> None:
    where = roots(tmp_path)
    (where.canonical_gt / "hi4d_pair17_fight").mkdir(parents=True)
    (where.canonical_gt / "lab_mine").symlink_to("hi4d_pair17_fight")
    rules = {"lab": "scene_name"}
    names = {"lab_mine": names_of_scene("lab_mine", where, rules)}
    outcome = check_upstream_unseen(names, [model(hi4d=["pair17"])], rules)
    assert outcome.offenders == ["lab/lab_mine: m (base model) was trained on these people, by m.yaml"]


def test_each_group_is_named_with_the_model_that_saw_it() -> None:
    scenes = {name: [name] for name in ("hi4d_pair17_fight", "hi4d_pair17_hug", "hi4d_pair02_hug")}
    outcome = check_upstream_unseen(scenes, [model(hi4d=["pair17"])], {})
    assert outcome.offenders == ["hi4d/pair17: m (base model) was trained on these people, by m.yaml"]
    assert outcome.counts == {"evaluation_groups": 2, "models": 1, "unknown": 0, "offenders": 1}
    assert "hi4d/pair17" in outcome.message


def test_unknown_is_said_and_is_no_failure() -> None:
    unknown = UpstreamModel("nvidia/difix_ref", "base model", None, "models/nvidia/difix_ref.yaml")
    outcome = check_upstream_unseen({"hi4d_pair17_fight": ["hi4d_pair17_fight"]}, [unknown, model(hi4d=["pair02"])], {})
    assert outcome.passed
    assert "is unknown: nvidia/difix_ref (base model; models/nvidia/difix_ref.yaml)" in outcome.message
    assert outcome.counts["unknown"] == 1


# --- the models of a lineage -----------------------------------------------------------------------------------------


def spec(run: dict[str, Any], **evaluation: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate({**SMALL, "exp_name": "v1", "runs": {"r": run}, "evaluation": evaluation})


def found(base: Path, run: dict[str, Any], **evaluation: Any) -> dict[str, UpstreamModel]:
    tree, ledger = DifixTree(base / "data", "v1"), ModelLedger(base / "models")
    models = upstream_models(tree, "r", spec(run, **evaluation), ledger, roots(base), ["studio_pair03_dance"])
    return {each.model_id: each for each in models}


def trained(base: Path, exp_name: str, run_name: str, flags: dict[str, Any], *, backend: str = "difix") -> Path:
    """A run's folder with a checkpoint, and the summary of its split."""
    tree = DifixTree(base / "data", exp_name)
    run = tree.tuning_run(run_name)
    run.checkpoints_dir.mkdir(parents=True)
    run.checkpoint(4).write_bytes(b"weights")
    config = {
        **{"exp_name": exp_name, "run_name": run_name, "backend": backend, "flags": flags, "launch_command": ["x"]},
        **{"hyperparameter_digest": "", "seed": 1, "device": "cpu", "versions": {}, "git_revision": None},
        **{"data_json": "", "data_json_sha256": "", "manifest_sha256": {}, "n_train_samples": 1, "n_test_samples": 1},
    }
    run.train_config.write_text(json.dumps(config))
    lists = ("datasets", "group_ids", "scene_runs", "test_group_ids", "reserved_scenes")
    summary = {
        "n_all": 1,
        "n_train": 1,
        "n_test": 0,
        "split_spec": {},
        "manifest_sha256": {},
        **{key: [] for key in lists},
    }
    tree.manifests_dir.mkdir(parents=True, exist_ok=True)
    tree.split_summary.write_text(json.dumps({**summary, "train_group_ids": ["studio/pair00", "studio/pair03"]}))
    return run.checkpoint(4)


def test_a_network_that_is_trained_from_nothing_builds_on_lpips_alone(tmp_path: Path) -> None:
    assert set(found(tmp_path, {"backend": "tiny"}, tasks=["nvs"])) == {"lpips-vgg"}
    assert set(found(tmp_path, {"backend": "tiny"}, nvs={"lpips": ["vgg", "alex"]})) == {"lpips-vgg", "lpips-alex"}
    assert found(tmp_path, {"backend": "tiny"}, tasks=["pose_smpl"]) == {}


def test_the_base_model_is_looked_up_by_its_hub_id(tmp_path: Path) -> None:
    path = ModelLedger(tmp_path / "models").entry("nvidia/difix_ref")
    path.parent.mkdir(parents=True)
    path.write_text("trained_on: {studio: [pair03]}\nsource: its card\n")
    of_run = found(tmp_path, {"backend": "difix", "model": "nvidia/difix_ref"}, tasks=["pose_smpl"])
    assert of_run["nvidia/difix_ref"].saw("studio_pair03_dance", {})
    assert of_run["nvidia/difix_ref"].part == "base model"


def test_the_folder_of_a_model_has_the_id_of_the_hub_or_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--nvidia--difix_ref" / "snapshots" / "0a1b"
    folder.mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    assert model_id_of(str(folder)) == "nvidia/difix_ref"
    assert model_id_of(str(tmp_path / "mine")) == "mine"
    assert model_id_of("stabilityai/sd-turbo") == "stabilityai/sd-turbo"


def test_weights_of_a_run_of_ours_bring_its_people_and_its_base_model(tmp_path: Path) -> None:
    flags = {"pretrained_model_name_or_path": "stabilityai/sd-turbo", "lambda_lpips": 1.0}
    checkpoint = trained(tmp_path, "v0", "old", flags)
    for name in (checkpoint, checkpoint.parents[1]):
        of_run = found(tmp_path, {"backend": "pretrained", "model": str(name)}, tasks=["nvs"], epochs=[0])
        assert set(of_run) == {"v0/old", "stabilityai/sd-turbo", "lpips-vgg"}
        assert of_run["v0/old"].saw("studio_pair03_dance", {})
        assert not of_run["v0/old"].saw("studio_pair02_hug", {})
        assert of_run["lpips-vgg"].part == "LPIPS of the loss, LPIPS of the tables"


def test_a_run_whose_split_is_gone_had_seen_people_unknown(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path, "v0", "old", {}, backend="tiny")
    DifixTree(tmp_path / "data", "v0").split_summary.unlink()
    of_run = found(tmp_path, {"backend": "pretrained", "model": str(checkpoint)}, tasks=["pose_smpl"], epochs=[0])
    assert of_run["v0/old"].entry is None


def test_the_estimators_of_evaluated_scenes_are_read_from_their_preprocessing(tmp_path: Path) -> None:
    estimated = roots(tmp_path).tree("studio_pair03_dance").estimated
    estimated.bodies_dir("smpl").mkdir(parents=True)
    (named,) = found(tmp_path, {"backend": "tiny"}, tasks=["pose_smpl"]).values()
    assert named.entry is None
    assert (named.model_id, "estimator: <id>" in named.where) == ("the estimates of studio_pair03_dance", True)
    estimated.preprocess_info.parent.mkdir()
    estimated.preprocess_info.write_text("status: success\nestimator: first\n estimator : second \n")
    assert set(found(tmp_path, {"backend": "tiny"}, tasks=["pose_smpl"])) == {"first", "second"}


# --- the check -------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(finished_world: World) -> Iterator[World]:
    """The finished world; its ledger is emptied."""
    yield finished_world
    for path in finished_world.settings.models.base.rglob("*.yaml"):
        path.unlink()


def write_entry(world: World, model_id: str, **trained_on: list[str]) -> None:
    path = world.settings.models.entry(model_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"trained_on": trained_on, "source": "its paper"}))


def outcome(world: World) -> CheckOutcome:
    return outcome_of(outcomes_of(world.platform, "evaluation_manifest", world.cell())[NAME])


def test_the_check_of_a_finished_run_warns_of_each_evaluated_group(world: World) -> None:
    assert not CHECKS["evaluation_manifest"][NAME].blocks
    before = outcome(world)
    assert before.passed
    assert f"{world.settings.models.entry('lpips-vgg')}" in before.message
    write_entry(world, "lpips-vgg", studio=["pair00"])
    assert outcome(world).passed
    write_entry(world, "lpips-vgg", studio=["pair00", "pair03"])
    after = outcome(world)
    assert not after.passed
    assert [line.partition(" was ")[0] for line in after.offenders] == [
        "studio/pair03: lpips-vgg (LPIPS of the tables)"
    ]


def test_photographs_under_another_name_count_as_seen(world: World) -> None:
    write_entry(world, "lpips-vgg", studio=["pair00"])
    with photographed_as(world, "studio_pair00_dance", "studio_pair03_dance"):
        after = outcome(world)
    assert not after.passed
    assert "1 of studio_pair00_dance (seen) and studio_pair03_dance (evaluated)" in after.offenders[0]


def test_a_bad_entry_fails_the_check_with_its_line(world: World) -> None:
    write_entry(world, "lpips-vgg", studio=["pair00"])
    path = world.settings.models.entry("lpips-vgg")
    path.write_text("trained_on: {studio: [3]}\nsource: x\n")
    after = outcome(world)
    assert not after.passed
    assert f"{path}:1" in after.message
