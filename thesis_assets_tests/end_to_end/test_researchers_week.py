"""The researcher's week: their own trainer and 3DGS pipeline, a cluster, and for each step at most one edit and one command.

Scenes arrive at a daemon; a run with another learning rate is started; its job dies at night and goes on; it is compared with the
baseline on the reserved scene, looked at, and becomes a table of the thesis; in the end somebody without a GPU uses it on
photographs of their own. The tests stand in the order of the week, and each goes on from what the ones before it left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from thesis_assets.evaluation.metric_tables import read_protocol
from thesis_assets.images.codecs import image_size, read_rgb
from thesis_assets.launch.commands import members
from thesis_assets.layout import DifixTree, EvaluationTree, SampleId, TuningRunTree
from thesis_assets.recordings.verification import verify_recording
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.storage import read_json
from thesis_assets.tuning.difix.checkpoint import to_directory
from thesis_assets_tests.services.dagster_server import WAIT_S, DagsterServer, prepare_home
from thesis_assets_tests.services.slurm import SMALL_PRESETS, SlurmCluster, slurm_cluster
from thesis_assets_tests.tuning.difix_models import write_sd_turbo
from thesis_assets_tests.tuning.environments import make_environment
from thesis_assets_tests.worlds import SIZE, World

pytestmark = pytest.mark.long

__all__ = ["slurm_cluster"]

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "thesis_assets_tests" / "tuning" / "published_trainer.py"
PIPELINE = "python -m thesis_assets_tests.end_to_end.hydra_pipeline hydra.run.dir={hydra_run_dir} scene={scene_name}"
SOON = {"THESIS_SCENE_QUIET_SECONDS": "4", "THESIS_SENSOR_SECONDS": "2"}
TRAINED, RESERVED, LATE = "studio_pair00_dance", "studio_pair01_fight", "studio_pair03_dance"
TUNED = "thesis_lr1e-4"
STEPS = [1, 5]
HELD_AT = 3
"""The trainer waits here until it is told to go on: after its save at step 1, before that at step 5."""


@dataclass
class Researcher(World):
    """A data home whose work runs on the cluster, and who sits in front of it."""

    cluster: SlurmCluster | None = None

    @property
    def environment(self) -> dict[str, str]:
        assert self.cluster is not None
        on_cluster = {
            "THESIS_LAUNCHER": "slurm",
            "THESIS_SLURM_PRESETS": json.dumps(SMALL_PRESETS),
            "THESIS_SLURM_POLL_SECONDS": "0.5",
            "THESIS_HF_CACHE_DIR": str(self.home / "hub"),
            "THESIS_WANDB_ROOT_DIR": str(self.home / "curves"),
            "THESIS_HYDRA_ROOT_DIR": str(self.home / "hydra"),
        }
        return {**super().environment, **on_cluster, **self.cluster.environment}

    @property
    def tree(self) -> DifixTree:
        return self.platform.difix(self.cell(exp_name="week"))

    @property
    def tuned(self) -> TuningRunTree:
        return self.tree.tuning_run(TUNED)

    def ran_in(self, run: str, scene_name: str) -> dict[str, str]:
        """The words that the pipeline kept in its run folder."""
        file = self.home / "hydra" / "week" / run / scene_name / ".hydra" / "overrides.yaml"
        return dict(word.split("=", 1) for word in yaml.safe_load(file.read_text()))

    @property
    def trainer_goes_on(self) -> Path:
        return self.home / "go_on"

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """One edit of the experiment's file."""
        value = yaml.safe_load((self.settings.experiments_dir / "week.yaml").read_text())
        change(value)
        # Through JSON: what two runs share would be written as an alias, which no experiment file may have.
        self.write(json.loads(json.dumps(value)))


def start(world: World, *arguments: str) -> subprocess.Popen[str]:
    """One command, left at work."""
    return subprocess.Popen(
        [sys.executable, "-m", "thesis_assets.cli.main", *arguments],
        env={**os.environ, **world.environment},
        cwd=world.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def command(world: World, *arguments: str, exit_code: int = 0) -> str:
    """One command to its end. Returns what it said."""
    process = start(world, *arguments)
    said, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == exit_code, f"thesis-assets {' '.join(arguments)}:\n{said}"
    return said


def wait_until(holds: Callable[[], bool], what: str, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S} s\n{told()}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory, slurm_cluster: SlurmCluster) -> Researcher:
    """No scene yet; an experiment of a baseline and of a first run by the researcher's own trainer."""
    base = tmp_path_factory.mktemp("week")
    model = write_sd_turbo(base / "sd-turbo")
    made = Researcher(base / "home", base / "arrived", auto_start="data", cluster=slurm_cluster)
    for root in ("canonical_gt", "preprocessing", "scenes"):
        (made.scene_home / root).mkdir(parents=True)
    untuned = untuned_weights(model, base / "initial.pkl")
    python = make_environment(base / "own", torch=True)
    own = {
        "backend": "external",
        "external": {"script": str(STAND_IN), "python": str(python), "setup": ["export STAND_IN=1"]},
        "model": str(model),
        "learning_rate": 2e-5,
        "resolution": SIZE,
        "max_train_steps": STEPS[-1],
        "checkpointing_steps": STEPS[1] - STEPS[0],
        "mixed_precision": "no",
        "extra_args": [
            *("--initial_weights", str(untuned)),
            *("--hold_at", str(HELD_AT), "--hold_until", str(made.trainer_goes_on)),
        ],
    }
    pipeline = {"source": "command", "python": sys.executable, "cwd": str(ROOT)}
    renders = f"{PIPELINE} task=render 'cameras=[{{target_cameras}}]' out={{render_dir}}"
    predictions = (
        f"{PIPELINE} task=train exp={{exp_name}} out={{output_dir}} 'epochs=[0,1]' difix.model_id={{model_dir}}"
    )
    made.write(
        {
            "exp_name": "week",
            "generation": {"scenes": ["studio_*"], "renders": {**pipeline, "command": renders}},
            "split": {"test_groups": {"studio": ["pair01"]}, "reserved_scenes": [RESERVED]},
            "runs": {
                "baseline": {
                    "backend": "pretrained",
                    "model": str(to_directory(untuned, base / "difix_ref", model=str(model))),
                    "resolution": SIZE,
                },
                "thesis": own,
            },
            "evaluation": {
                "tasks": ["nvs"],
                "epochs": [0, 1],
                "frames": {"stride": 2},
                "predictions": {**pipeline, "command": predictions},
            },
        }
    )
    prepare_home(made)
    return made


def untuned_weights(model: Path, path: Path) -> Path:
    """What the researcher's script makes of its base model as it starts: the published keys, nothing trained."""
    import torch

    from thesis_assets.tuning.difix.checkpoint import PUBLISHED_KEYS, state_of_model

    state = state_of_model(model)
    torch.save({name: state[name] for name in PUBLISHED_KEYS}, path)
    return path


# --- scenes arrive ---------------------------------------------------------------------------------------------------


def copy_scene(name: str, source: Path, target: Path) -> None:
    for root in ("canonical_gt", "preprocessing"):
        shutil.copytree(source / root / name, target / root / name)
    shutil.copyfile(source / "scenes" / f"{name}.json", target / "scenes" / f"{name}.json")


def exported(tree: DifixTree) -> set[str]:
    return {name for name in (TRAINED, RESERVED, LATE) if tree.scene_run(name).run_stats.is_file()}


def runs_are_done(server: DagsterServer) -> bool:
    return {server.status(run_id) for run_id in server.runs()} == {"SUCCESS"}


def test_of_three_scenes_that_arrive_the_two_complete_ones_are_exported(week: Researcher, scene_home: Path) -> None:
    copied_last = (f"canonical_gt/{LATE}/images/4/000002.jpg", f"preprocessing/{LATE}/misc/preprocess_info.txt")
    copy_scene(LATE, scene_home, week.scene_home)
    for name in copied_last:
        (week.scene_home / name).unlink()
    copy_scene(TRAINED, scene_home, week.scene_home)
    copy_scene(RESERVED, scene_home, week.scene_home)
    server = DagsterServer(week, week.home / "server.log", SOON)
    try:
        wait_until(lambda: len(exported(week.tree)) >= 2 and runs_are_done(server), "two shards", server.log_tail)
        morning = command(week, "status", "--exp", "week", "--since", "12h")
    finally:
        server.stop()
    impatient = command(week, "run", "--exp", "week", exit_code=1)

    assert exported(week.tree) == {TRAINED, RESERVED}
    assert f"waits: {LATE}: images/4: 1 of 3 frames, first 000002" in morning
    assert f"{LATE}: images/4: 1 of 3 frames" in impatient
    assert f"--scenes {LATE}" in impatient
    assert not week.tree.all_samples.exists(), "collected without the scene that is on its way"
    jobs = [read_json(week.tree.job(f"scene_samples--{name}").record, JobRecord) for name in (TRAINED, RESERVED)]
    assert {(job.launcher, job.returncode) for job in jobs} == {("slurm", 0)}
    # In the evening the last files come.
    for name in copied_last:
        shutil.copyfile(scene_home / name, week.scene_home / name)
    # Their pipeline has rendered what was complete, each scene in a run folder of its own.
    assert week.ran_in("_renders", TRAINED)["task"] == "render"
    assert not (week.home / "hydra" / "week" / "_renders" / LATE).exists()


# --- a run with another learning rate, and its night -----------------------------------------------------------------


def lines_of(run: TuningRunTree) -> list[ProgressLine]:
    """Whole lines of a trainer's progress."""
    text = run.progress.read_text() if run.progress.is_file() else ""
    return [ProgressLine.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@pytest.fixture(scope="module")
def evening(week: Researcher) -> Iterator[subprocess.Popen[str]]:
    """One edit, and the one command that does all that follows from it."""

    def another_learning_rate(experiment: dict[str, Any]) -> None:
        experiment["runs"][TUNED] = {**experiment["runs"].pop("thesis"), "learning_rate": 1e-4}

    week.edit(another_learning_rate)
    process = start(week, "run", "--exp", "week")
    yield process
    process.kill()
    process.wait()


def test_one_edit_and_one_command_train_with_another_learning_rate_on_the_cluster(
    week: Researcher, evening: subprocess.Popen[str]
) -> None:
    def trains() -> bool:
        assert evening.poll() is None, evening.communicate()[0]
        told = lines_of(week.tuned)
        return any(line.step == HELD_AT for line in told) and any(line.event == "checkpoint" for line in told)

    wait_until(trains, f"step {HELD_AT}", lambda: str(lines_of(week.tuned)))

    assert read_json(week.tuned.job, JobRecord).launcher == "slurm"
    started = json.loads((week.tuned.base / "stand_in.json").read_text())
    assert (started["hf_home"], started["wandb_dir"]) == (str(week.home / "hub"), str(week.home / "curves"))
    words = started["argv"]
    assert words[words.index("--learning_rate") + 1] == "0.0001"
    data = json.loads(week.tree.data_json.read_text())
    assert {SampleId.parse(sample).scene_name for sample in data["train"]} == {TRAINED, LATE}
    assert {SampleId.parse(sample).scene_name for sample in data["test"]} == {RESERVED}


def test_its_job_dies_at_night_and_one_command_resumes_from_the_last_checkpoint(
    week: Researcher, evening: subprocess.Popen[str]
) -> None:
    # As a node that runs out of memory does: all of the job at once, nobody is asked.
    for record in (week.tuned.job, week.tuned.script_job):
        for process in members(str(read_json(record, JobRecord).job_id)):
            process.send_signal(signal.SIGKILL)
    found_in_the_morning, _ = evening.communicate(timeout=WAIT_S)
    assert evening.returncode == 1, found_in_the_morning
    assert "the trainer ended by signal 9" in found_in_the_morning
    assert "then give the same command again" in found_in_the_morning
    morning = json.loads(command(week, "status", "--exp", "week", "--since", "12h", "--json"))
    (dead,) = [run for run in morning["runs"] if run["status"] == "failure"]
    assert (dead["cells"], "signal 9" in dead["reason"]) == (f"week|{TUNED}", True)
    died = len(lines_of(week.tuned))

    week.trainer_goes_on.touch()
    said = command(week, "run", "--exp", "week")

    first, *others = lines_of(week.tuned)[died:]
    assert (first.event, first.step) == ("start", STEPS[0])
    assert f"goes on from model_{STEPS[0]}.pkl" in first.message
    assert min(line.step for line in others) > STEPS[0]
    assert [step for step in range(9) if week.tuned.checkpoint(step).is_file()] == STEPS
    # What was made before it died is not made again.
    assert "triplets, a scene each (3 scenes): current" in said
    assert "(baseline)" not in said[: said.index("evaluation at every epoch")]


# --- what came of it -------------------------------------------------------------------------------------------------


def test_baseline_and_tuned_are_compared_on_the_reserved_scene(week: Researcher) -> None:
    board = json.loads(command(week, "leaderboard", "--exp", "week", "--json"))

    scores = {(row["run_name"], row["epoch"]): row for row in board["rows"] if row["metric"] == "psnr"}
    assert {row["scene_name"] for row in scores.values()} == {RESERVED}, scores
    differences = {
        (row["run_name"], row["against"], row["epoch"]): row for row in board["differences"] if row["metric"] == "psnr"
    }
    # Frame by frame on the same scene: the unrefined renders are the same, the refined ones are not.
    assert differences[TUNED, "week/baseline", 0]["difference"] == 0
    assert differences[TUNED, "week/baseline", 1]["difference"] != 0
    assert list(differences[TUNED, "week/baseline", 1]["by_scene"]) == [RESERVED]


def test_their_pipeline_was_given_each_model_as_a_directory_and_left_half_size_jpeg(week: Researcher) -> None:
    handed = {run: week.ran_in(run, RESERVED)["difix.model_id"] for run in ("baseline", TUNED)}
    assert handed[TUNED] == str(week.tuned.converted(STEPS[-1]))
    assert Path(handed["baseline"]).name == "difix_ref"
    (tree,) = week.platform.evaluation_trees(week.cell(TUNED, "week")).values()
    task = tree.task(1, "nvs")
    photograph = week.scene_home / "canonical_gt" / RESERVED / "images" / "4" / "000000.jpg"
    left = EvaluationTree(tree.pipeline.output_dir, "week").task(1, "nvs").metric_picture("pred", 4, "000000", ".jpg")
    assert image_size(left) == image_size(task.pred_image(4, "000000")) == tuple(s // 2 for s in image_size(photograph))
    protocol = read_protocol(task)
    assert protocol is not None
    assert protocol.comparable["prediction_source"] == "command"
    assert protocol.comparable["render_size"] == "1/2 of the photographs'"


def test_selecting_a_checkpoint_on_the_reserved_scene_is_refused(week: Researcher) -> None:
    before = week.tuned.selected_checkpoint.read_bytes()

    week.edit(lambda experiment: experiment["runs"][TUNED].update(selection={"rule": "best_psnr"}))
    said = command(week, "run", "--exp", "week", exit_code=1)

    assert "scoring checkpoints on any of them would choose on the people one reports on" in said
    assert "studio/pair01" in said
    assert "set rule: last" in said
    assert week.tuned.selected_checkpoint.read_bytes() == before


def test_recordings_and_the_compare_page_are_made(week: Researcher) -> None:
    for run_name in ("baseline", TUNED):
        cell = week.cell(run_name, "week")
        (evaluated,) = week.platform.evaluation_trees(cell).values()
        recordings = [week.tree.tuning_run(run_name).triplet_recording, evaluated.input_data_recording]
        recordings += [evaluated.evaluation_recording(epoch) for epoch in (0, 1)]
        for recording in recordings:
            assert verify_recording(recording).passed, recording

    said = command(week, "compare", "--exp", "week", "--run", TUNED, "--against", "baseline")

    page = week.settings.reports.comparison("week", TUNED, "baseline")
    assert str(page) in said
    assert RESERVED in page.read_text()


def test_the_table_of_the_thesis_is_written(week: Researcher) -> None:
    table = week.settings.reports.leaderboard_latex.read_text()
    for words in (
        r"\begin{tabular}",
        "unrefined &",
        "baseline &",
        TUNED.replace("_", r"\_"),
        r"$\Delta$PSNR to baseline",
    ):
        assert words in table, words


# --- somebody else, without a GPU -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> Path:
    """A nerfstudio project: one photograph a camera, transforms.json, and the splat of that moment."""
    folder = tmp_path_factory.mktemp("photographs")
    truth = scene_home / "canonical_gt" / RESERVED
    frames = []
    for camera in sorted(path.name for path in (truth / "images").iterdir()):
        photograph = folder / "images" / f"view_{camera}.jpg"
        photograph.parent.mkdir(exist_ok=True)
        shutil.copyfile(truth / "images" / camera / "000000.jpg", photograph)
        with np.load(truth / "all_cameras" / camera / "000000.npz") as file:
            (intrinsics,), (world_to_camera,) = file["intrinsics"], file["extrinsics"]
        camera_to_world = np.linalg.inv(np.vstack([world_to_camera, [0, 0, 0, 1]]))
        # OpenGL's axes: y up, looking along -z.
        camera_to_world[:, 1:3] *= -1
        frames.append(
            {
                "file_path": f"images/{photograph.name}",
                "transform_matrix": camera_to_world.tolist(),
                **{"fl_x": float(intrinsics[0, 0]), "fl_y": float(intrinsics[1, 1])},
                **{"cx": float(intrinsics[0, 2]), "cy": float(intrinsics[1, 2])},
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    shutil.copyfile(scene_home / "preprocessing" / RESERVED / "gaussians" / "000000.ply", folder / "splat.ply")
    return folder


def test_photographs_and_a_checkpoint_become_a_recording_on_a_machine_without_a_gpu(
    week: Researcher, photographs: Path, tmp_path: Path
) -> None:
    world = World(tmp_path / "home", tmp_path / "home")
    world.write(
        {
            "exp_name": "garden",
            "generation": {"scenes": ["garden_*"]},
            "split": {"train_only": True, "group_rules": {"garden": "scene_name"}},
            "runs": {"theirs": {"backend": "pretrained", "model": str(week.tuned.base)}},
            "evaluation": {"tasks": ["nvs"], "epochs": [0, 1]},
        }
    )
    taken = command(
        world,
        *("scene", "init", "--name", "garden_bench", "--nerfstudio", str(photographs / "transforms.json")),
        *("--gaussians", str(photographs / "splat.ply"), "--source-camera", "images/view_16.jpg"),
    )
    assert "nvs: enough" in taken

    command(world, "run", "--exp", "garden")

    cell = world.cell("theirs", "garden")
    (evaluated,) = world.platform.evaluation_trees(cell).values()
    difix = world.platform.difix(cell)
    for recording in (
        difix.tuning_run("theirs").triplet_recording,
        evaluated.input_data_recording,
        evaluated.evaluation_recording(1),
    ):
        assert verify_recording(recording).passed, recording
    # The cameras came the right way round: the splat is rendered as in the scene that it was taken from.
    there = week.tree.image(SampleId(RESERVED, 4, 16, "000000", "000000"))
    here = difix.image(SampleId("garden_bench", 0, 1, "000000", "000000"))
    assert np.abs(read_rgb(there).astype(int) - read_rgb(here).astype(int)).mean() < 1
