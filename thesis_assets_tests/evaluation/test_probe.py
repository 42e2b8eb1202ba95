"""A probe measures what jobs do, on one scene's first frames, and writes nowhere but below its folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thesis_assets.errors import InvalidExperiment
from thesis_assets.evaluation.probe import ProbeWork, _fitted, probe
from thesis_assets.experiments import ExperimentSpec
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, tiny_world
from thesis_assets_tests.tuning.environments import make_environment
from thesis_assets_tests.tuning.test_external import STAND_IN
from thesis_assets_tests.worlds import TINY_RUN

SCENE = "hi4d_pair01_hug"


def work_of(tmp_path: Path, **run: Any) -> ProbeWork:
    world = tiny_world(tmp_path)
    add_scene(world, SCENE, frames=range(12))
    spec = experiment("v1", runs={"r1": {**TINY_RUN, "max_train_steps": 5000, "checkpointing_steps": 1000, **run}})
    return ProbeWork(
        experiment=ExperimentSpec.model_validate(spec),
        scene_name=SCENE,
        run_name="r1",
        roots=world.platform.roots,
        folder=tmp_path / "probe",
        device="cpu",
        threads=1,
        of_data="d",
        of_run="r",
    )


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_seconds_of_one_frame_and_of_several_become_a_start_and_a_unit() -> None:
    """A job that takes 3 s before its first of two triplets a frame, of 0.5 s each; only the first one is cold."""
    cold = iter([3.0, 0.5, 0.5])
    costs = _fitted(lambda frames: {"scene_samples": (next(cold) + 0.5 * 2 * frames, 2 * frames)}, 4.0, 5)
    assert costs["scene_samples"].unit == pytest.approx(0.5)
    assert costs["scene_samples"].start == pytest.approx(7.0)


@pytest.mark.long
def test_export_training_and_evaluation_are_measured_below_one_folder(tmp_path: Path) -> None:
    work = work_of(tmp_path)
    before = files_of(tmp_path)

    measured = probe(work)

    assert set(measured.costs) == {"scene_samples", "tuned_checkpoint", "predictions", "nvs"}
    assert all(cost.start > 0 for cost in measured.costs.values())
    assert 0 < measured.costs["tuned_checkpoint"].unit < 5
    after = files_of(tmp_path)
    assert {path for path in after if not path.is_relative_to(work.folder)} == set(before)
    assert all(after[path] == stamp for path, stamp in before.items())


@pytest.mark.long
def test_without_a_run_the_export_alone_is_measured(tmp_path: Path) -> None:
    assert set(probe(replace(work_of(tmp_path), run_name="")).costs) == {"scene_samples"}


@pytest.mark.long
def test_a_probe_that_is_queued_again_measures_anew(tmp_path: Path) -> None:
    """What the first time had exported was found made, and triplets seemed to cost nothing."""
    work = replace(work_of(tmp_path), run_name="")
    probe(work)
    made = {path for path in files_of(work.folder) if path.name == "image.png"}
    stamps = files_of(work.folder)
    probe(work)
    assert made
    assert not [path for path in made if files_of(work.folder)[path] == stamps[path]]


@pytest.mark.long
def test_the_steps_of_the_users_own_trainer_are_measured(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "own", torch=True)
    own = {"script": str(STAND_IN), "python": str(python), "setup": ["export STAND_IN=1"]}
    more = {"model": "stabilityai/sd-turbo", "extra_args": ["--seconds_a_step", "0.3"]}
    work = work_of(tmp_path, backend="external", external=own, train_batch_size=1, **more)
    # No views are asked for: what the stand-in saves belongs to a base model that is not here.
    poses = work.experiment.evaluation.model_copy(update={"tasks": ("pose_smplx",)})
    measured = probe(replace(work, experiment=work.experiment.model_copy(update={"evaluation": poses})))
    assert measured.costs["tuned_checkpoint"].unit == pytest.approx(0.3, rel=0.4)


@pytest.mark.long
def test_a_probe_fails_of_what_the_work_would_fail_of(tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment, match="flag"):
        probe(work_of(tmp_path, extra_args=["--no_such_flag", "1"]))
