"""What is recognised below a folder, what of an older configuration is understood, and what is said to be wrong."""

import json
from pathlib import Path

import pytest

from thesis_assets.adoption.planned import common_template, plan, read_found_rows
from thesis_assets.adoption.scan import Findings, resolve, scan
from thesis_assets.adoption.writing import environment_text
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import TASKS, AdoptedTrees, DifixTree
from thesis_assets_tests.adoption.older_trees import (
    EVALUATED,
    SCORES,
    SOURCE,
    TARGETS,
    TEST,
    TRAIN,
    write_old_paths,
    write_old_scores,
    write_old_snapshot,
)
from thesis_assets_tests.adoption.script_trees import EPOCHS, FRAMES, february, head, january


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only to be looked at."""
    root = tmp_path_factory.mktemp("old")
    write_old_snapshot(root / "difix_tuning_data")
    write_old_scores(root / "results")
    write_old_paths(root / "configs" / "paths.yaml", root / "scenes_of_old")
    for folder, names in (("scenes", (TRAIN, TEST, EVALUATED)), ("scenes_hi4d_test", (EVALUATED, "studio_extra"))):
        (root / "configs" / folder).mkdir()
        for name in names:
            entry = {"seq_name": name, "cam_id": 16}
            (root / "configs" / folder / f"{name}.json").write_text(json.dumps(entry))
    return root


def problems(findings: Findings) -> str:
    return "\n".join(map(str, findings.complaints))


def test_each_kind_of_tree_is_found_where_it_lies(old: Path) -> None:
    findings = scan(old)
    (snapshot,) = findings.snapshots
    assert (snapshot.exp_name, [(run.run_name, run.steps) for run in snapshot.runs]) == ("v0", [("lr2e5", (1, 3))])
    (scores,) = findings.scores
    assert (scores.exp_name, scores.run_name, scores.scene_name) == ("w1", "adopted", EVALUATED)
    assert (scores.epochs, scores.tasks, scores.older) == (tuple(SCORES), ("nvs",), True)
    assert len(scores.pictures) == 8
    assert [len(scenes) for scenes in findings.scene_files.values()] == [3, 2]
    assert "studio_extra" in problems(findings)


def test_references_of_the_older_paths_are_filled_and_those_that_lead_nowhere_named(old: Path) -> None:
    findings = scan(old)
    (settings,) = findings.configurations.values()
    root = old / "scenes_of_old"
    assert settings["THESIS_CANONICAL_GT_ROOT_DIR"] == f"{root}/canonical_gt"
    assert settings["THESIS_PREPROCESSING_ROOT_DIR"] == f"{root}/preprocessing"
    assert settings["THESIS_CONDA_ENV"] == "difix"
    assert "THESIS_HF_CACHE_DIR" not in settings
    assert "`paths.hf_cache_dir` cannot be resolved: there is no `missing` in the file" in problems(findings)


def test_references_in_a_circle_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ROOT", "/from/outside")
    assert resolve("a", {"a": "${oc.env:SOME_ROOT}/x/${b}", "b": "y"}) == "/from/outside/x/y"
    with pytest.raises(ValueError, match="circle"):
        resolve("a", {"a": "${b}", "b": "${a}"})
    with pytest.raises(ValueError, match="no SUCH_A_NAME"):
        resolve("a", {"a": "${oc.env:SUCH_A_NAME}"})


def test_older_rows_become_todays_with_the_side_they_stood_on(old: Path) -> None:
    findings = Findings(old)
    rows = read_found_rows(DifixTree(old / "difix_tuning_data", "v0"), findings)
    assert len(rows.rows) == 8
    assert all("__rccam16__" in row.sample_id for row in rows.rows)
    assert all("__rcam16__" in str(rows.folders[row.sample_id]) for row in rows.rows)
    assert (rows.groups("train"), rows.groups("test")) == (["studio/pair00"], ["studio/pair02"])
    assert rows.prompt == "make it sharp"
    assert "older form (rcam): 8 rows" in problems(findings)


def test_people_on_both_sides_are_named_and_the_split_kept_as_it_was(tmp_path: Path) -> None:
    folder = write_old_snapshot(tmp_path)
    manifest = folder / "manifests" / "all_samples.jsonl"
    lines = manifest.read_text().replace('"split": "train"', '"split": "test"', 1)
    manifest.write_text(lines)
    findings = scan(tmp_path)
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), dict.fromkeys([TRAIN, TEST], SOURCE))
    assert "people stand on both sides of the split: studio/pair00" in problems(findings)
    assert len(planned.rows.half("test")) == 5


def test_what_is_understood_of_older_files_is_declared_and_what_is_not_is_named(old: Path) -> None:
    findings = scan(old)
    snapshot, scores = plan(findings, AdoptedTrees(old / "adopted"), dict.fromkeys([TRAIN, TEST, EVALUATED], SOURCE))
    spec = ExperimentSpec.model_validate({"exp_name": "v0", **snapshot.value})
    assert (spec.generation.frames.stride, spec.generation.filtering.min_mask_coverage) == (2, 0.1)
    assert spec.generation.export.prompt == "make it sharp"
    assert spec.split.test_groups == {"studio": ("pair02",)}
    run = spec.runs["lr2e5"]
    assert (run.backend, run.saved_steps(), run.learning_rate, run.resolution) == ("external", [1, 3], 3e-5, 576)
    for unknown in ("wild_guess", "`seed`"):
        assert unknown in problems(findings)
    alone = ExperimentSpec.model_validate({"exp_name": "w1", **scores.value})
    assert alone.evaluation_only
    assert (alone.evaluation.predictions.source, alone.evaluation.scenes) == ("existing", (EVALUATED,))


def test_a_scene_that_is_not_on_disk_is_named_and_left_out(old: Path) -> None:
    findings = scan(old)
    planned = plan(findings, AdoptedTrees(old / "adopted"), dict.fromkeys([TRAIN, TEST], SOURCE))
    assert [experiment.wanted_name for experiment in planned] == ["v0"]
    assert f"the scene {EVALUATED} is not on disk" in problems(findings)


def test_an_older_evaluation_that_lacks_a_file_or_has_other_columns_is_left_out(tmp_path: Path) -> None:
    folder = write_old_scores(tmp_path)
    (folder / "epoch_0000" / "novel_view_results.txt").unlink()
    table = folder / "epoch_0030" / "metrics_all_cams_per_frame.csv"
    table.write_text(table.read_text().replace("camera_id,frame_id", "cam,frame", 1))
    findings = scan(tmp_path)
    assert plan(findings, AdoptedTrees(tmp_path / "adopted"), {EVALUATED: SOURCE}) == []
    assert "novel_view_results.txt: damaged: the file is missing" in problems(findings)
    assert "the table has other columns (found cam,frame" in problems(findings)


def test_each_form_of_evaluated_tree_is_told_by_its_folders_and_files(tmp_path: Path) -> None:
    for write, exp_name in ((january, "w1"), (february, "w2"), (head, "w3")):
        write(tmp_path / "results", EVALUATED, exp_name)
    found = {each.exp_name: each for each in scan(tmp_path).scores}
    assert {
        name: (each.run_name, each.scene_name, each.epochs, each.tasks, each.older) for name, each in found.items()
    } == {
        "w1": ("adopted", EVALUATED, EPOCHS, ("nvs",), True),
        "w2": ("adopted", EVALUATED, EPOCHS, TASKS, True),
        "w3": ("adopted", EVALUATED, EPOCHS, TASKS, False),
    }
    assert {len(found[name].pictures) for name in ("w1", "w2")} == {len(EPOCHS) * len(TARGETS) * len(FRAMES)}


def test_trees_of_one_experiment_in_several_forms_are_one_experiment(tmp_path: Path) -> None:
    for write, scene in ((january, TRAIN), (february, TEST), (head, EVALUATED)):
        write(tmp_path / "results", scene, "w1")
    (planned,) = plan(
        scan(tmp_path), AdoptedTrees(tmp_path / "adopted"), dict.fromkeys([TRAIN, TEST, EVALUATED], SOURCE)
    )
    assert planned.value["evaluation"]["scenes"] == sorted([TRAIN, TEST, EVALUATED])
    assert (list(planned.value["runs"]), planned.mirrored) == (["adopted"], True)


def test_a_linked_folder_of_results_is_followed_once_and_circles_end(tmp_path: Path) -> None:
    january(tmp_path / "scratch", EVALUATED, "w1")
    old = tmp_path / "old"
    old.mkdir()
    for name, target in (("results", tmp_path / "scratch"), ("same", tmp_path / "scratch"), ("circle", tmp_path)):
        (old / name).symlink_to(target)
    (tmp_path / "scratch" / "back").symlink_to(old)
    (old / "gone").symlink_to(tmp_path / "nowhere")
    findings = scan(old)
    assert [each.folder for each in findings.scores] == [old / "results" / EVALUATED / "evaluation" / "w1"]
    said = problems(findings)
    assert f"{old / 'same'}: the folder {old / 'results'} once more" in said
    assert f"{old / 'circle'}: a link to {tmp_path}, which it lies in" in said
    assert f"{old / 'gone'}: a link that leads nowhere: {tmp_path / 'nowhere'}" in said


def test_a_scene_whose_numbers_are_damaged_leaves_the_other_scenes_theirs(tmp_path: Path) -> None:
    for scene in (TRAIN, EVALUATED):
        february(tmp_path / "results", scene, "w2")
    table = tmp_path / "results" / TRAIN / "w2" / "evaluation" / "epoch_0030" / "metrics_all_cams_per_frame.csv"
    table.write_text(table.read_text().rpartition("\n4,7,")[0] + "\n")
    findings = scan(tmp_path)
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), dict.fromkeys([TRAIN, EVALUATED], SOURCE))
    assert {scene: found.tasks for (_, scene), found in planned.scores.items()} == {TRAIN: TASKS, EVALUATED: TASKS}
    damaged = {complaint.place.name for complaint in findings.complaints if complaint.damaged}
    assert damaged == {"metrics_avg_per_camera.csv", "novel_view_results.txt"}


def test_a_task_that_was_not_measured_at_every_epoch_is_left_out_and_named(tmp_path: Path) -> None:
    folder = february(tmp_path / "results", EVALUATED, "w2")
    for path in (folder / "evaluation" / "epoch_0000").glob("smpl_*"):
        path.unlink()
    findings = scan(tmp_path)
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), {EVALUATED: SOURCE})
    assert planned.value["evaluation"]["tasks"] == ["nvs", "pose_smplx"]
    assert "pose_smpl was measured at the epochs 30 alone; pose_smpl is left out" in problems(findings)


def test_a_scene_without_a_source_camera_is_named_and_left_out(tmp_path: Path) -> None:
    january(tmp_path / "results", EVALUATED, "w1")
    findings = scan(tmp_path)
    assert plan(findings, AdoptedTrees(tmp_path / "adopted"), {EVALUATED: None}) == []
    assert f"which camera of {EVALUATED} is the source is not known" in problems(findings)


def test_each_bad_file_among_scene_files_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "configs" / "scenes"
    folder.mkdir(parents=True)
    for name, text in {
        "studio_pair00_dance": '{"seq_name": "a", "cam_id": 16}',
        "studio_pair01_fight": '{"seq_name": "a", "cam_id": "sixteen"}',
        "studio_pair02_hug": '{"seq_name": "a", ',
        "studio_pair03_dance": "[]",
        "nodataset": '{"seq_name": "a", "cam_id": 16}',
    }.items():
        (folder / f"{name}.json").write_text(text)
    (tmp_path / "package.json").write_text("{}")
    findings = scan(tmp_path)
    assert findings.scene_files == {folder: ("studio_pair00_dance",)}
    named = {complaint.place.name: complaint.problem for complaint in findings.complaints}
    assert named.keys() == {
        f"{name}.json" for name in ("studio_pair01_fight", "studio_pair02_hug", "studio_pair03_dance", "nodataset")
    }
    assert "cam_id" in named["studio_pair01_fight.json"]
    assert "not JSON" in named["studio_pair02_hug.json"]


def test_rows_that_two_manifests_tell_differently_are_named(tmp_path: Path) -> None:
    folder = write_old_snapshot(tmp_path)
    rows = [json.loads(line) for line in (folder / "manifests" / "all_samples.jsonl").read_text().splitlines()]
    moved = [{**row, "group_id": "pair07"} for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    for name, written in (("train", [*moved, moved[0]]), ("test", [*test, moved[1]])):
        text = "".join(json.dumps(row) + "\n" for row in written)
        (folder / "manifests" / f"split_{name}.jsonl").write_text(text)
    findings = Findings(tmp_path)
    found = read_found_rows(DifixTree(tmp_path, "v0"), findings)
    assert (len(found.half("train")), len(found.half("test"))) == (4, 4)
    said = problems(findings)
    assert "group_id is pair07 in split_train.jsonl, and pair00 in all_samples.jsonl: 4 rows" in said
    assert "split_train.jsonl has the sample twice: 1 rows" in said
    assert "the sample is in split_train.jsonl and in split_test.jsonl: 1 rows" in said


def test_one_template_names_every_tree_or_there_is_none(tmp_path: Path) -> None:
    for run in ("a", "b"):
        for scene in ("d_x", "d_y"):
            (tmp_path / run / scene / "v1" / "evaluation" / "epoch_0030" / "nvs").mkdir(parents=True)
            manifest = {
                "output_layout_version": "v1",
                "exp_name": "v1",
                "scene_name": scene,
                "eval_epochs": ["epoch_0030"],
            }
            (tmp_path / run / scene / "v1" / "manifest.json").write_text(json.dumps(manifest))
    found = {(each.run_name, each.scene_name): each for each in scan(tmp_path).scores}
    assert set(found) == {("a", "d_x"), ("a", "d_y"), ("b", "d_x"), ("b", "d_y")}
    assert common_template(found) == f"{tmp_path.resolve()}/{{run_name}}/{{scene_name}}/v1"
    found["a", "d_z"] = found.pop(("a", "d_x"))
    assert common_template(found) is None


def test_settings_that_are_there_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nTHESIS_DEVICE=cpu\nTHESIS_CONDA_ENV = 'other'")
    text, other = environment_text(path, {"THESIS_CONDA_ENV": "difix", "THESIS_HF_CACHE_DIR": "/a b"})
    assert text == "# mine\nTHESIS_DEVICE=cpu\nTHESIS_CONDA_ENV = 'other'\nTHESIS_HF_CACHE_DIR='/a b'\n"
    assert other == {"THESIS_CONDA_ENV": "other"}


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no such folder"):
        scan(tmp_path / "nothing")
    assert scan(tmp_path).is_empty
