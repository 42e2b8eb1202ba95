"""The plan of a publication: places, digests, commands, and what is refused."""

import shlex
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.experiments.spec import DatasetEntry
from thesis_assets.layout import EvaluationTree
from thesis_assets.provenance import Unit, Wanted, begin
from thesis_assets.publishing.licences import NotForSharing
from thesis_assets.publishing.plan import check_repo_id, plan_publication
from thesis_assets.recordings.recording import finish_recording, place_of, recording_facts
from thesis_assets.recordings.triplets import export_triplets
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets.schemas.recordings import PublishedFile
from thesis_assets_tests.recordings.test_triplets import brighten, make_run

REPO = "someone/recordings"


def allowed(dataset: str) -> dict[str, DatasetEntry]:
    return {dataset: DatasetEntry(redistribution=True)}


def make_tree(root: Path, scene: str = "studio_pair03_dance", run: str = "tiny_a", **notes: object) -> EvaluationTree:
    tree = EvaluationTree(root / run / scene, "demo")
    manifest = EvaluationManifest(
        output_layout_version="v1",
        exp_name="demo",
        scene_name=scene,
        tasks=["nvs"],
        eval_epochs=["epoch_0030"],
        nvs_cameras=[4],
        source_camera_id=16,
        pose_eval_world_alignment_method=None,
        notes={"run_name": run, **notes},
    )
    storage.write_json(tree.manifest, manifest)
    for path in (tree.input_data_recording, tree.evaluation_recording(30)):
        add_recording(path)
    return tree


def add_recording(path: Path) -> None:
    storage.write_bytes(path, b"RRF2" + path.name.encode())
    unit = Unit("a recording", place_of(path), Wanted("evaluation_recording", "1"))
    finish_recording(begin(unit), path, ["not there: x: y"])


def test_every_recording_has_its_place_size_and_digests(tmp_path: Path) -> None:
    trees = [make_tree(tmp_path), make_tree(tmp_path, run="tiny_b")]
    plan = plan_publication(trees, REPO)
    assert [file.path_in_repo for file in plan.files] == [
        "demo/tiny_a/studio_pair03_dance/rerun/evaluation_epoch_0030.rrd",
        "demo/tiny_a/studio_pair03_dance/rerun/input_data.rrd",
        "demo/tiny_b/studio_pair03_dance/rerun/evaluation_epoch_0030.rrd",
        "demo/tiny_b/studio_pair03_dance/rerun/input_data.rrd",
    ]
    first = plan.files[1]
    assert first.published.sha256 == storage.sha256_file(trees[0].input_data_recording)
    assert first.bytes == trees[0].input_data_recording.stat().st_size
    assert first.published.data_version == recording_facts(trees[0].input_data_recording).data_version
    assert (first.published.kind, first.published.epoch) == ("input_data", None)
    assert (plan.files[0].published.kind, plan.files[0].published.epoch) == ("evaluation", 30)
    assert plan.total_bytes == sum(file.bytes for file in plan.files)
    assert plan.warnings == ()


def test_the_equivalent_commands_are_safe_for_a_shell(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "with space; rm -rf")
    plan = plan_publication([tree], REPO)
    assert shlex.split(plan.commands[1]) == [
        "hf",
        "upload",
        REPO,
        str(tree.input_data_recording),
        "demo/tiny_a/studio_pair03_dance/rerun/input_data.rrd",
        "--repo-type=dataset",
    ]
    assert plan.commands[0] in plan.markdown


def test_a_dataset_that_may_not_be_passed_on_is_refused_unless_its_entry_says_so(tmp_path: Path) -> None:
    trees = [make_tree(tmp_path), make_tree(tmp_path, "hi4d_pair15_fight")]
    with pytest.raises(NotForSharing, match="hi4d"):
        plan_publication(trees, REPO)
    with pytest.raises(NotForSharing):
        plan_publication(trees, REPO, datasets={"hi4d": DatasetEntry(licence="mine"), **allowed("studio")})
    plan = plan_publication(trees, REPO, datasets={"hi4d": DatasetEntry(redistribution=True, licence="by permission")})
    assert len(plan.files) == 4
    assert plan.licences["hi4d"] == "by permission"


def test_an_entry_may_also_forbid(tmp_path: Path) -> None:
    with pytest.raises(NotForSharing):
        plan_publication([make_tree(tmp_path)], REPO, datasets={"studio": DatasetEntry(redistribution=False)})


def test_an_unknown_licence_is_a_warning(tmp_path: Path) -> None:
    plan = plan_publication([make_tree(tmp_path, "mmm_lift")], REPO)
    assert "mmm" in plan.warnings[0]
    assert plan.warnings[0] in plan.markdown


@pytest.mark.parametrize("content", [b"cut", b"RRF2INPUT_DATA.rrd"])
def test_a_recording_of_other_bytes_than_its_record_says_is_refused(tmp_path: Path, content: bytes) -> None:
    tree = make_tree(tmp_path)
    storage.write_bytes(tree.input_data_recording, content)
    with pytest.raises(InvalidFile, match="its record describes"):
        plan_publication([tree], REPO)


def test_a_recording_of_a_version_without_records_keeps_its_name_in_the_repo(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    recording = tree.input_data_recording
    place_of(recording).record.unlink()
    facts = {"input_digest": "a" * 64, "rerun_sdk": "0.40.0", "bytes": recording.stat().st_size, "absent": []}
    storage.write_json(recording.with_suffix(".inputs.json"), facts)
    published = plan_publication([tree], REPO).files[1].published
    assert (published.data_version, published.rerun_sdk) == ("a" * 64, "0.40.0")
    older = {("input_digest" if key == "data_version" else key): value for key, value in published.model_dump().items()}
    assert PublishedFile.model_validate(older) == published


def test_an_unfinished_recording_is_refused(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    place_of(tree.input_data_recording).record.unlink()
    with pytest.raises(InvalidFile, match="missing"):
        plan_publication([tree], REPO)


def test_nothing_to_publish_is_an_error(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    for path in tree.rerun_dir.iterdir():
        path.unlink()
    with pytest.raises(InvalidFile, match="no recording"):
        plan_publication([tree], REPO)
    with pytest.raises(InvalidFile, match="no recording"):
        plan_publication([], REPO)


def test_two_trees_of_one_cell_are_refused(tmp_path: Path) -> None:
    trees = [make_tree(tmp_path / "here"), make_tree(tmp_path / "there")]
    with pytest.raises(InvalidFile, match="one place"):
        plan_publication(trees, REPO)


def test_names_from_a_manifest_cannot_leave_the_repo(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey):
        plan_publication([make_tree(tmp_path, run_name="../../elsewhere")], REPO)


@pytest.mark.parametrize("repo", ["recordings", "a/b/c", "-a/b", "a/b.git", "a/../b", "a/b c", "", "a/", "https://x/y"])
def test_a_repo_needs_owner_and_name(repo: str) -> None:
    with pytest.raises(InvalidKey):
        check_repo_id(repo)


def test_an_epoch_split_by_task_goes_up_as_its_tasks(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    for task in ("nvs", "pose_smplx"):
        add_recording(tree.task_recording(30, task))
    kinds = [(file.published.kind, file.published.epoch) for file in plan_publication([tree], REPO).files]
    assert kinds == [("input_data", None), ("nvs", 30), ("pose_smplx", 30)]


def test_a_tuning_runs_recording_goes_along_and_its_samples_pass_the_same_gate(tmp_path: Path) -> None:
    run = make_run(tmp_path / "data", n_samples=3)
    export_triplets(run, "tiny_a", load_refiner=brighten)
    plan = plan_publication([make_tree(tmp_path)], REPO, tuning_run=(run, "tiny_a"))
    assert [file.path_in_repo for file in plan.files if file.published.kind == "triplets"] == [
        "demo/tiny_a/rerun/triplets.rrd"
    ]
    forbidden = {"studio": DatasetEntry(redistribution=False)}
    with pytest.raises(NotForSharing):
        plan_publication([], REPO, tuning_run=(run, "tiny_a"), datasets=forbidden)
    assert plan_publication([make_tree(tmp_path)], REPO, tuning_run=(run, "tiny_b")).files == tuple(
        file for file in plan.files if file.published.kind != "triplets"
    )
