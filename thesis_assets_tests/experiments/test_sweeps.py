"""Sweeps in an experiment's file: which runs they declare, what those are called, and what is refused."""

import pickle
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.reading import ExperimentFolder, read_experiment, to_yaml
from thesis_assets.experiments.spec import ExperimentSpec, RunSpec
from thesis_assets.experiments.sweeps import MAX_POINTS, written
from thesis_assets.experiments.writing import declare_derived_runs, fork_experiment

HEAD = "exp_name: e\ngeneration:\n  scenes: [a_b]\nsplit: {train_only: true}\nruns:\n"
SWEPT = HEAD + (
    "  base:\n    max_train_steps: 10\n    learning_rate: 5.0e-5\n"
    "    sweep:\n      seed: [1, 2, 3]\n      learning_rate: [1.0e-5, 2.0e-5]\n  other: {seed: 2}\n"
)


def write(folder: Path, text: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(text)
    return path


def test_a_sweep_is_a_run_a_point_with_the_other_keys_of_its_run(tmp_path: Path) -> None:
    spec = read_experiment(write(tmp_path, SWEPT))

    assert list(spec.runs) == [*(f"base-lr{rate}-s{seed}" for rate in ("1e-5", "2e-5") for seed in (1, 2, 3)), "other"]
    assert spec.runs["base-lr2e-5-s3"] == RunSpec(max_train_steps=10, learning_rate=2e-5, seed=3)
    point = spec.sweeps.points["base-lr2e-5-s3"]
    assert (point.sweep, point.group, point.seed, point.seeds) == ("base", "base-lr2e-5", 3, (1, 2, 3))
    assert spec.sweeps.runs_of("base") == list(spec.runs)[:6]
    assert spec.sweeps.runs_of("base-lr2e-5") == spec.sweeps.runs_of("base-lr2e-5-s*") == list(spec.runs)[3:6]
    assert spec.sweeps.runs_of("other") == []


def test_an_experiment_goes_to_workers_with_its_sweeps(tmp_path: Path) -> None:
    spec = read_experiment(write(tmp_path, SWEPT))
    there = pickle.loads(pickle.dumps(spec))
    assert (there, there.sweeps) == (spec, spec.sweeps)


def test_a_run_that_was_begun_stays_one_with_its_own_keys(tmp_path: Path) -> None:
    write(tmp_path, SWEPT)
    begun = ExperimentFolder(tmp_path, lambda exp_name, run_name: (exp_name, run_name) == ("e", "base")).read("e")

    assert list(begun.runs)[:2] == ["base", "base-lr1e-5-s1"]
    assert begun.runs["base"] == RunSpec(max_train_steps=10, learning_rate=5e-5)
    assert "base" not in ExperimentFolder(tmp_path).read("e").runs


def test_a_name_stands_for_the_run_of_the_same_seed(tmp_path: Path) -> None:
    spec = read_experiment(write(tmp_path, SWEPT))

    assert spec.beside("base-lr1e-5", 3) == "base-lr1e-5-s3"
    assert spec.beside("base-lr1e-5-s*", 2) == "base-lr1e-5-s2"
    assert spec.beside("other", 3) == "other"
    assert spec.beside("base", 2) is spec.beside("base-lr1e-5", 4) is None


def test_a_control_may_be_a_group_of_seeds_and_not_a_whole_sweep(tmp_path: Path) -> None:
    read_experiment(write(tmp_path, SWEPT + "evaluation: {control: base-lr1e-5}\n"))
    with pytest.raises(InvalidExperiment, match="`base` is none of the runs"):
        read_experiment(write(tmp_path, SWEPT + "evaluation: {control: base}\n"))


def test_keys_that_share_their_initials_are_written_out(tmp_path: Path) -> None:
    text = HEAD + "  a:\n    sweep: {lambda_lpips: [0.5], lambda_l2: [1.0], timestep: [7]}\n"
    assert list(read_experiment(write(tmp_path, text)).runs) == ["a-lambda_l21-lambda_lpips0.5-t7"]


def test_the_runs_of_a_file_without_a_sweep_are_as_they_were(tmp_path: Path) -> None:
    spec = read_experiment(write(tmp_path, HEAD + "  a: {seed: 3}\n"))
    assert (list(spec.runs), dict(spec.sweeps.points)) == (["a"], {})


# --- names -----------------------------------------------------------------------------------------------------------

AXES: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": st.floats(min_value=0, max_value=1e3),
    "seed": st.integers(0, 2**32 - 1),
    "max_grad_norm": st.floats(min_value=0, max_value=1e6),
    "lambda_l2": st.floats(min_value=0, max_value=1e6),
    "lambda_lpips": st.floats(min_value=0, max_value=1e6),
    "mv_unet": st.booleans(),
    "mixed_precision": st.sampled_from(["bf16", "fp16", "no"]),
    "train_batch_size": st.integers(1, 65_536),
}
SWEEPS = st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: st.lists(AXES[key], min_size=1, max_size=3, unique=True) for key in keys})
)


def experiment(sweep: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "exp_name": "e",
        "generation": {"scenes": ["a_b"]},
        "split": {"train_only": True},
        "runs": {"base": {"max_train_steps": 10, "sweep": sweep}},
    }


@settings(max_examples=80, deadline=None)
@given(SWEEPS, st.randoms(use_true_random=False))
def test_each_point_has_a_name_of_its_own_whatever_the_order_of_keys_and_values(
    sweep: dict[str, list[Any]], order: random.Random
) -> None:
    spec = ExperimentSpec.model_validate(experiment(sweep))

    n_points = 1
    for values in sweep.values():
        n_points *= len(values)
    assert len(spec.runs) == n_points
    for name, run in spec.runs.items():
        assert all(getattr(run, key) == value for key, value in spec.sweeps.points[name].values.items())
    keys = order.sample(list(sweep), len(sweep))
    shuffled = {key: order.sample(sweep[key], len(sweep[key])) for key in keys}
    assert dict(ExperimentSpec.model_validate(experiment(shuffled)).runs) == dict(spec.runs)


@settings(max_examples=40, deadline=None)
@given(SWEEPS, st.data())
def test_a_sweep_is_the_same_in_a_fork_and_its_points_can_be_derived_from(
    sweep: dict[str, list[Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = ExperimentFolder(Path(directory))
        folder.path("e").write_text(to_yaml(experiment(sweep)), encoding="utf-8")
        spec = folder.read("e")
        forked = fork_experiment(folder.path("e"), "f")
        assert (forked.runs, forked.sweeps) == (spec.runs, spec.sweeps)

        source = data.draw(st.sampled_from(list(spec.runs)))
        (name,) = declare_derived_runs(folder, "e", [f"runs.{source}.viz_freq=7"])
        derived = folder.read("e")
        assert derived.runs[name] == spec.runs[source].model_copy(update={"viz_freq": 7})
        assert {run: each for run, each in derived.runs.items() if run != name} == spec.runs


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_a_name_reads_back_and_is_no_longer_than_it_must_be(value: float) -> None:
    assert float(written(value)) == value
    assert len(written(value)) <= len(repr(value))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0e-5, "1e-5"),
        (2.5e-4, "2.5e-4"),
        (0.001, "1e-3"),
        (0.5, "0.5"),
        (1.0, "1"),
        (1e6, "1e6"),
        (1000, "1000"),
        (True, "true"),
        ("stabilityai/sd-turbo", "stabilityai_sd-turbo"),
    ],
)
def test_values_are_written_shortest(value: Any, name: str) -> None:
    assert written(value) == name


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "no mapping": ("3", "base.sweep", 7, "not a mapping"),
    "nothing swept": ("{}", "base.sweep", 7, "not a mapping"),
    "a key that no run has": ("{\n      sed: [1]}", "base.sweep.sed", 8, "not a key of a run"),
    "a key with parts": ("{\n      tracker: [none]}", "base.sweep.tracker", 8, "one plain value"),
    "a sweep in a sweep": ("{\n      sweep: [1]}", "base.sweep.sweep", 8, "not a key of a run"),
    "an empty list": ("{\n      seed: []}", "base.sweep.seed", 8, "with a value at least"),
    "no list": ("{\n      seed: 3}", "base.sweep.seed", 8, "with a value at least"),
    "a value with parts": ("{\n      seed: [1,\n        [2]]}", "base.sweep.seed.1", 9, "a number, a word or a switch"),
    "a value twice": ("{\n      learning_rate: [1,\n        1.0]}", "base.sweep.learning_rate.1", 9, "stands twice"),
    "a value of another kind": ("{\n      seed: [1,\n        x]}", "base.sweep.seed.1", 9, "valid integer"),
    "a value out of bounds": ("{\n      seed: [1,\n        -1]}", "base.sweep.seed.1", 9, "greater than or equal"),
    "values that do not fit": ("{backend: [difix]}", "base.sweep", 7, "of the point base-bdifix"),
    "too many points": (f"{{seed: {list(range(MAX_POINTS + 1))}}}", "base.sweep", 7, f"at most {MAX_POINTS}"),
    "a name too long": (f"{{model: [{'m' * 300}]}}", "base.sweep", 7, "cannot be a run"),
    "two points of one name": ("{model: [a/b, a_b]}", "base.sweep", 7, "`base-ma_b` is also a point"),
    "a sweep's name": (
        "{timestep: [7]}\n  base-t7:\n    sweep: {seed: [1]}",
        "base.sweep",
        7,
        "`base-t7` is also the sweep",
    ),
    "a run's name": ("{seed: [1]}\n  base-s1: {}", "base.sweep", 7, "`base-s1` is also the run"),
    "seeds where nothing is trained": (
        "{\n      seed: [1, 2]}\n    backend: pretrained\n    model: nvidia/difix",
        "base.sweep.seed",
        8,
        "nothing is trained",
    ),
    "a group with a run's name": (
        "{seed: [1], timestep: [7]}\n  base-t7: {}",
        "base.sweep",
        7,
        "`base-t7` is also the run",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_sweep_is_refused_with_its_line_and_key(tmp_path: Path, case: str) -> None:
    sweep, key, line, text = REFUSED[case]
    path = write(tmp_path, HEAD + f"  base:\n    sweep: {sweep}\n")
    with pytest.raises(InvalidExperiment, match=text) as caught:
        read_experiment(path)
    assert (caught.value.file, caught.value.key) == (f"{path}:{line}", f"runs.{key}")


def test_a_sweep_under_a_name_that_is_no_text_is_refused_as_a_run_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment, match="valid string"):
        read_experiment(write(tmp_path, HEAD + "  1:\n    sweep: {seed: [1]}\n"))


def test_a_refused_sweep_says_what_mends_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        read_experiment(write(tmp_path, HEAD + "  base:\n    sweep: {sed: [1]}\n"))
    assert caught.value.remedy == "correct the name (near: seed), or leave it out"


def test_points_are_counted_over_all_sweeps_of_an_experiment(tmp_path: Path) -> None:
    half = list(range(MAX_POINTS // 2))
    two = HEAD + f"  a:\n    sweep: {{seed: {half}}}\n  b:\n    sweep: {{seed: {half}}}\n"
    assert len(read_experiment(write(tmp_path, two)).runs) == MAX_POINTS
    with pytest.raises(InvalidExperiment, match=f"{MAX_POINTS + 1} points"):
        read_experiment(write(tmp_path, two + "  c:\n    sweep: {seed: [1]}\n"))


def test_a_whole_sweep_is_nothing_to_derive_from(tmp_path: Path) -> None:
    path = write(tmp_path, SWEPT)
    with pytest.raises(InvalidExperiment, match="this is a sweep") as caught:
        declare_derived_runs(ExperimentFolder(tmp_path), "e", ["runs.base.viz_freq=5"])
    assert "base-lr1e-5-s1" in str(caught.value.wanted)
    assert path.read_text() == SWEPT


def test_a_run_that_was_begun_is_derived_from_without_the_sweep(tmp_path: Path) -> None:
    write(tmp_path, SWEPT)
    folder = ExperimentFolder(tmp_path, lambda exp_name, run_name: run_name == "base")
    (name,) = declare_derived_runs(folder, "e", ["runs.base.viz_freq=5"])
    assert folder.read("e").runs[name] == RunSpec(max_train_steps=10, learning_rate=5e-5, viz_freq=5)


def test_an_argument_that_would_turn_a_swept_switch_off_in_every_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment, match="every point the same mirror"):
        read_experiment(
            write(tmp_path, HEAD + '  base:\n    extra_args: ["--no-mirror"]\n    sweep: {mirror: [true, false]}\n')
        )


def test_a_key_that_no_run_has_is_answered_with_those_near_it_in_a_swept_run_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment, match="there is no such key") as caught:
        read_experiment(write(tmp_path, HEAD + "  base:\n    lerning_rate: 1.0\n    sweep: {seed: [1, 2]}\n"))
    assert caught.value.key == "runs.base.lerning_rate"
    assert "near: learning_rate)" in (caught.value.remedy or "")


@pytest.mark.parametrize("flag", ["--seed 7", "--seed=7"])
def test_an_argument_that_would_give_every_point_the_same_value_is_refused(tmp_path: Path, flag: str) -> None:
    words = ", ".join(f'"{word}"' for word in flag.split())
    with pytest.raises(InvalidExperiment, match="every point the same seed"):
        read_experiment(write(tmp_path, HEAD + f"  base:\n    extra_args: [{words}]\n    sweep: {{seed: [1, 2]}}\n"))
