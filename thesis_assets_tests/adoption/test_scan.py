"""What is recognised below a folder, what of an older configuration is understood, and what is said to be wrong."""

import json
from pathlib import Path

import pytest

from thesis_assets.adoption.planned import common_template, plan, read_found_rows
from thesis_assets.adoption.scan import Findings, resolve, scan
from thesis_assets.adoption.writing import environment_text
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import AdoptedTrees, DifixTree
from thesis_assets_tests.adoption.older_trees import (
    EVALUATED,
    SCORES,
    SOURCE,
    TEST,
    TRAIN,
    write_old_paths,
    write_old_scores,
    write_old_snapshot,
)


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
