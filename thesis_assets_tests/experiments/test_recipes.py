"""Recipes in an experiment's file: what they may say, and how a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments import ExperimentSpec, read_experiment
from thesis_assets.experiments.spec import GenerationSpec

COMMAND = "python render.py {recipe} {iterations} {train_cameras} {train_frames} {render_dir}"
CROSS = {"name": "cross", "share": 0.6}
UNDERFIT = {"name": "underfit", "share": 0.3, "schedule": [0.25, 0.75], "iterations": 30_000}
SPARSE = {"name": "sparse", "share": 0.1, "every": 3}


def generation(*recipes: dict[str, Any], source: str = "precomputed", **parts: Any) -> dict[str, Any]:
    return {"scenes": ["hi4d_*"], "renders": {"source": source}, "recipes": list(recipes), **parts}


def read(tmp_path: Path, section: dict[str, Any]) -> ExperimentSpec:
    path = tmp_path / "v1.yaml"
    value = {"exp_name": "v1", "generation": section, "split": {"train_only": True}}
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return read_experiment(path)


def test_each_recipe_has_a_folder_and_one_with_a_schedule_one_a_value(tmp_path: Path) -> None:
    section = read(tmp_path, generation(CROSS, UNDERFIT, SPARSE)).generation
    folders = {renders.folder: renders.iterations for renders in section.recipe_renders()}
    assert folders == {"cross": None, "underfit-0.25": 7_500, "underfit-0.75": 22_500, "sparse": None}


def test_without_recipes_the_section_is_written_as_it_was_before_there_were_any() -> None:
    section = GenerationSpec.model_validate({"scenes": ["a_*"]})
    assert not {"recipes", "recipe_seed"} & section.model_dump(mode="json").keys()
    empty = GenerationSpec.model_validate({"scenes": ["a_*"], "recipes": []})
    assert empty.model_dump(mode="json", exclude_unset=True) == {"scenes": ["a_*"]}
    assert section.recipe_renders() == []
    assert section.evaluated_renders == ""


def test_the_first_recipe_is_evaluated_by_the_longest_of_its_schedule() -> None:
    def evaluated(*recipes: dict[str, Any]) -> str:
        return GenerationSpec.model_validate(generation(*recipes)).evaluated_renders

    assert evaluated(CROSS, UNDERFIT, SPARSE) == "cross"
    assert evaluated({**UNDERFIT, "schedule": [0.75, 0.25]}, CROSS, SPARSE) == "underfit-0.75"


@pytest.mark.parametrize(
    ("recipes", "key", "found", "said"),
    [
        ([{**CROSS, "share": 1.5}], "generation.recipes.0.share", "1.5", "less than or equal to 1"),
        ([{**CROSS, "share": True}], "generation.recipes.0.share", "True", "valid number"),
        ([{**CROSS, "weight": 1}], "generation.recipes.0.weight", "1", "there is no such key"),
        ([{**CROSS, "every": 1}], "generation.recipes.0.every", "1", "greater than or equal to 2"),
        ([{**UNDERFIT, "schedule": [1.5]}], "generation.recipes.0.schedule.0", "1.5", "less than or equal to 1"),
        ([{**UNDERFIT, "iterations": None}], "generation.recipes.0", "underfit", "`schedule` needs `iterations`"),
        ([{**UNDERFIT, "schedule": [0.5, 0.5]}], "generation.recipes.0", "0.5", "a value twice"),
        ([{**CROSS, "name": "4"}], "generation.recipes.0", "'4'", "a letter first"),
        ([{**CROSS, "name": "../x"}], "generation.recipes.0", "../x", "a letter first"),
        ([{**CROSS, "name": "a.json"}], "generation.recipes.0", "a.json", "a letter first"),
        ([CROSS, UNDERFIT], "generation.recipes", "cross", "the shares add up to 0.9 (0.6 + 0.3)"),
        ([CROSS, {"name": "Cross", "share": 0.4}], "generation.recipes", "Cross", "the folder of renders `cross`"),
    ],
)
def test_a_wrong_recipe_is_told_by_its_key(
    tmp_path: Path, recipes: list[dict[str, Any]], key: str, found: str, said: str
) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        read(tmp_path, generation(*recipes))
    assert caught.value.key == key
    assert found in str(caught.value.found)
    assert said in str(caught.value)
    assert caught.value.file is not None
    assert caught.value.file.rpartition(":")[2].isdigit()


def test_two_recipes_with_one_folder_are_refused(tmp_path: Path) -> None:
    values = {**UNDERFIT, "name": "a", "schedule": [0.5, 1.0]}
    read(tmp_path, generation({"name": "a-0", "share": 0.7}, values))
    with pytest.raises(InvalidExperiment, match="the folder of renders `a-1`"):
        read(tmp_path, generation({"name": "a-1", "share": 0.7}, values))


def test_gaussians_have_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        read(tmp_path, generation({**CROSS, "share": 1.0}, source="gaussians"))
    assert caught.value.key == "generation.recipes"
    assert "renders.source: command" in str(caught.value)


@pytest.mark.parametrize(
    ("recipes", "command", "said"),
    [
        ([UNDERFIT], "r {recipe}", "write {iterations} into it"),
        ([{**SPARSE, "iterations": 9}], "r {recipe} {iterations}", "write {train_frames} into it"),
        ([{**CROSS, "train_cameras": "all"}], "r {recipe}", "write {train_cameras} into it"),
        ([CROSS], "r {iterations}", "recipe `cross` has no `iterations`"),
        ([CROSS, {"name": "more", "share": 0.4}], "r {render_dir}", "write {recipe} into it"),
        ([], "r {recipe}", "there are no `recipes` to fill it in from"),
    ],
)
def test_the_command_must_be_told_what_a_recipe_sets(
    tmp_path: Path, recipes: list[dict[str, Any]], command: str, said: str
) -> None:
    if len(recipes) == 1:
        recipes = [{**recipes[0], "share": 1.0}]
    section = generation(*recipes, source="command")
    section["renders"]["command"] = command
    with pytest.raises(InvalidExperiment) as caught:
        read(tmp_path, section)
    assert said in str(caught.value)


def test_a_stride_that_leaves_only_trained_frames_is_refused(tmp_path: Path) -> None:
    for stride, refused in ((6, True), (3, True), (2, False), (1, False)):
        section = generation({**SPARSE, "share": 1.0}, frames={"stride": stride})
        if refused:
            with pytest.raises(InvalidExperiment, match="recipe `sparse` takes its samples from other frames"):
                read(tmp_path, section)
        else:
            read(tmp_path, section)


def test_a_seed_of_recipes_needs_recipes(tmp_path: Path) -> None:
    assert read(tmp_path, generation({**CROSS, "share": 1.0}, recipe_seed=3)).generation.recipe_seed == 3
    with pytest.raises(InvalidExperiment, match="`recipe_seed` belongs to `recipes`"):
        read(tmp_path, generation(recipe_seed=3))


def test_a_command_that_is_told_all_of_it_is_right(tmp_path: Path) -> None:
    section = generation({**CROSS, "iterations": 30_000}, UNDERFIT, {**SPARSE, "iterations": 30_000}, source="command")
    section["renders"]["command"] = COMMAND
    assert len(read(tmp_path, section).generation.recipes) == 3
