"""The experiment files of the repository: each is valid, and the annotated one explains every key."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from thesis_assets.experiments import ExperimentFolder, ExperimentSpec
from thesis_assets.experiments.spec import EvaluationSpec, GenerationSpec, RunSpec, SplitSpec
from thesis_assets.experiments.writing import examples
from thesis_assets.samples.snapshot import shaping

FOLDER = ExperimentFolder(Path(__file__).parents[2] / "experiments")
RESERVED = ("hi4d_pair15_fight", "hi4d_pair16_jump", "hi4d_pair17_dance", "hi4d_pair19_piggyback")


@pytest.mark.parametrize("name", FOLDER.names())
def test_every_experiment_of_the_repository_is_valid(name: str) -> None:
    spec = FOLDER.read(name)

    assert spec.exp_name == name
    assert spec.description


def test_the_demo_tunes_twice_on_the_same_data_at_two_learning_rates() -> None:
    spec = FOLDER.read("demo")

    a, b = spec.runs["tiny_a"], spec.runs["tiny_b"]
    assert a.learning_rate != b.learning_rate
    assert a.model_copy(update={"learning_rate": b.learning_rate}) == b
    assert spec.evaluation.epoch_steps(a) == {0: None, 15: 200, 30: 300}


def test_the_demo_reports_on_people_it_neither_trained_nor_chose_on() -> None:
    spec = FOLDER.read("demo")

    assert spec.split.reserved_scenes == ("studio_pair03_dance",)
    for run in spec.runs.values():
        assert run.selection.groups == ("pair02",)
    assert spec.evaluation.scenes == ("studio_pair03_*",)
    assert set(spec.split.test_groups["studio"]) == {"pair02", "pair03"}


def test_the_stereo_pair_is_one_group_and_has_no_runs() -> None:
    spec = FOLDER.read("motorcycle")

    assert spec.generation.scenes == ("middlebury_motorcycle",)
    assert spec.split.train_only
    assert not spec.generation.filtering.apply_mask
    assert spec.runs == {}


def test_the_annotated_experiment_keeps_the_reserved_scenes_and_shows_each_kind_of_run() -> None:
    spec = examples().read("hi4d_v1")

    assert spec.split.reserved_scenes == RESERVED
    assert {run.backend for run in spec.runs.values()} == {"external", "difix", "pretrained"}
    external = spec.runs["thesis_lr2e5"].external
    assert external is not None
    assert external.script == "submodules/difix3d/src/train_difix.py"
    evaluated = {scene.split("_")[1] for scene in spec.evaluation.scenes}
    chosen_on = {group for run in spec.runs.values() for group in run.selection.groups}
    assert chosen_on
    assert not chosen_on & evaluated


def keys_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


@pytest.mark.parametrize(
    ("part", "model", "elsewhere"),
    [
        ("generation", GenerationSpec, {"scenes_from", "recipes", "recipe_seed"}),
        ("split", SplitSpec, {"test_fraction", "train_only", "seed"}),
        ("evaluation", EvaluationSpec, set()),
    ],
)
def test_the_annotated_experiment_has_every_key_of_each_part(
    part: str, model: type[BaseModel], elsewhere: set[str]
) -> None:
    """A key whose alternative is in use stands in a comment."""
    text = examples().path("hi4d_v1").read_text()
    written = set(yaml.safe_load(text)[part])

    assert keys_of(model) == written | elsewhere
    for key in elsewhere:
        assert f"{key}:" in text or f"`{key}`" in text


def test_the_annotated_experiment_has_every_key_of_a_run() -> None:
    runs = yaml.safe_load(examples().path("hi4d_v1").read_text())["runs"]

    assert keys_of(RunSpec) == set().union(*(set(run) for run in runs.values()))


def test_the_defaults_that_the_annotated_experiment_names_are_the_defaults() -> None:
    """Every commented `default` of a plain number or word, against the model's."""
    written = yaml.safe_load(examples().path("hi4d_v1").read_text())
    defaults = RunSpec(backend="difix", model="a").model_dump(mode="json")
    not_defaults = {"backend", "model", "learning_rate", "preset", "tracker", "selection"}

    for key, value in written["runs"]["difix_lr5e5"].items():
        if key not in not_defaults:
            assert value == defaults[key], key
    evaluation = EvaluationSpec().model_dump(mode="json")
    for key in ("tasks", "epochs", "cameras", "frames", "nvs", "pose"):
        assert written["evaluation"][key] == evaluation[key], key
    generation = GenerationSpec(scenes=("a",)).model_dump(mode="json")
    for key in ("exclude", "on_new_scenes", "auto_fork", "source_camera", "frames", "export"):
        assert written["generation"][key] == generation[key], key


def test_an_experiment_that_is_not_there_is_answered_with_those_that_are() -> None:
    from thesis_assets.errors import InvalidExperiment, InvalidKey

    with pytest.raises(InvalidExperiment, match=r"demo, motorcycle"):
        FOLDER.read("no_such")
    with pytest.raises(InvalidKey):
        FOLDER.read("../pyproject")


def test_what_shapes_a_sample_is_not_the_experiments_name_nor_its_list_of_scenes() -> None:
    one = ExperimentSpec.model_validate(
        {"exp_name": "a", "generation": {"scenes": ["x_*"], "export": {"prompt": "p"}}, "split": {"train_only": True}}
    )
    other = ExperimentSpec.model_validate(
        {"exp_name": "b", "generation": {"scenes": ["y_1"], "exclude": ["y_2"]}, "split": {"test_fraction": 0.5}}
    )
    strided = one.generation.model_copy(update={"frames": one.generation.frames.model_copy(update={"stride": 2})})

    first, second, third = (
        shaping(each.model_dump(mode="json")) for each in (one.generation, other.generation, strided)
    )
    assert first == second
    assert third != first
