"""The scores of a checkpoint by the recipes of its test samples."""

import json
from pathlib import Path

import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.tuning import EVAL_COLUMNS, RecipeScore
from thesis_assets.tuning.recipe_scores import recipe_scores
from thesis_assets_tests.schemas.test_schemas import DOCUMENTED_META, PROVENANCE

SAMPLES = {"000001": "cross", "000002": "cross", "000003": "sparse", "000004": None}
ROWS = [("000001", 20.0, 22.0), ("000002", 21.0, 24.0), ("000003", 15.0, 14.0), ("000004", 1.0, 99.0)]


def sample_id(fname: str) -> str:
    return f"hi4d_pair00_dance__tcam16__rccam4__tf{fname}__rf{fname}"


@pytest.fixture
def tree(tmp_path: Path) -> DifixTree:
    """Four samples, one of no recipe, and a run that scored them at steps 2 and 4; the checkpoints are there of both."""
    tree = DifixTree(tmp_path, "v1")
    for fname, recipe in SAMPLES.items():
        path = tree.samples_dir / sample_id(fname) / "meta.json"
        path.parent.mkdir(parents=True)
        provenance = {**PROVENANCE, **({"recipe": recipe} if recipe else {})}
        path.write_text(json.dumps({**DOCUMENTED_META, "sample_id": sample_id(fname), "provenance": provenance}))
    run = tree.tuning_run("r1")
    run.eval_dir.mkdir(parents=True)
    run.checkpoints_dir.mkdir()
    for step, more in ((2, 0.0), (4, 1.0)):
        run.checkpoint(step).write_bytes(b"weights")
        write_info(run.checkpoint_info(step), step)
        lines = [f"{sample_id(fname)},hi4d/pair00,{render},{refined + more},,,," for fname, render, refined in ROWS]
        run.eval_metrics(step).write_text("\n".join([",".join(EVAL_COLUMNS), *(line[:-1] for line in lines)]) + "\n")
    return tree


def write_info(path: Path, step: int) -> None:
    info = {"step": step, "sha256": "0" * 64, "bytes": 7, "keys": [], "metrics": {}}
    path.write_text(json.dumps({**info, "data_json_sha256": "", "hyperparameter_digest": ""}))


def of(tree: DifixTree) -> dict[str, RecipeScore]:
    return {score.recipe: score for score in recipe_scores(tree, "r1", ["cross", "sparse", "never"])}


def test_means_are_over_the_samples_of_each_recipe(tree: DifixTree) -> None:
    found = of(tree)
    assert list(found) == ["cross", "sparse", "never"]
    assert (found["cross"].n_samples, found["sparse"].n_samples, found["never"].n_samples) == (2, 1, 0)
    assert (found["cross"].step, found["cross"].psnr_render, found["cross"].psnr_refined) == (4, 20.5, 24.0)
    assert (found["sparse"].psnr_render, found["sparse"].psnr_refined) == (15.0, 15.0)
    assert found["never"].psnr_render is None
    assert found["cross"].lpips_render is None


def test_the_selected_checkpoint_goes_before_the_newest(tree: DifixTree) -> None:
    chosen = {
        **{"exp_name": "v1", "run_name": "r1", "rule": "step", "step": 2, "path": "", "sha256": "", "scores": []},
        **{"selection_groups": [], "selection_sample_ids": [], "data_json_sha256": "", "manifest_sha256": {}},
        "scene_names": [],
    }
    tree.tuning_run("r1").selected_checkpoint.write_text(json.dumps(chosen))
    assert of(tree)["cross"].step == 2
    tree.tuning_run("r1").eval_metrics(2).unlink()
    assert of(tree)["cross"].step == 4


def test_a_run_that_scored_nothing_has_no_scores(tree: DifixTree) -> None:
    for step in (2, 4):
        tree.tuning_run("r1").eval_metrics(step).unlink()
    assert of(tree) == {}


def test_a_table_of_another_form_is_refused(tree: DifixTree) -> None:
    tree.tuning_run("r1").eval_metrics(4).write_text("sample,psnr\na,1\n")
    with pytest.raises(InvalidFile, match="cannot be read"):
        of(tree)
