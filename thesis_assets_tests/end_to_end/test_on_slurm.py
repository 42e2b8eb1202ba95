"""The whole loop on a real Slurm cluster: exported as an array, tuned, evaluated, recorded; requeued runs end with the same weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.jobs import Following
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.launch.slurm_cluster import Site, presets_with
from thesis_assets.launch.slurm_jobs import SlurmLauncher
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.settings import Settings
from thesis_assets.storage import read_json
from thesis_assets.tuning.checkpoints import load_checkpoint
from thesis_assets.tuning.tuning_run import TrainerStopped, TuningResult, tune
from thesis_assets_tests.services.slurm import SMALL_PRESETS, SlurmCluster, slurm_cluster
from thesis_assets_tests.tuning.snapshots import SPLIT, make_run, write_snapshot
from thesis_assets_tests.worlds import SCENES, SMALL, World

pytestmark = pytest.mark.long

__all__ = ["slurm_cluster"]

SITE = Site(presets=presets_with(SMALL_PRESETS), poll_seconds=0.5, vanished_seconds=2.0, signal_seconds=40)
STEPS = [200, 400, 600]
"""Saved steps. So many that what is done to a job after its first ones finds it at work, on any machine."""


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return slurm_cluster


# --- the whole loop --------------------------------------------------------------------------------------------------


@dataclass
class SlurmWorld(World):
    """A world whose work runs on the cluster."""

    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        slurm = {
            "launcher": "slurm",
            "slurm_presets": SMALL_PRESETS,
            "slurm_poll_seconds": 0.5,
            "slurm_array_at_once": 3,
        }
        return super().settings.model_copy(update={**slurm, **self.more})


def record_of(world: World, cell: str) -> JobRecord:
    return read_json(world.platform.difix(world.cell()).job(cell).record, JobRecord)


def test_an_experiment_goes_from_scenes_to_recordings_on_the_cluster(
    tmp_path: Path, scene_home: Path, cluster: SlurmCluster, finished_world: World
) -> None:
    world = SlurmWorld(tmp_path / "home", scene_home)
    world.write(SMALL)

    report = world.run()

    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    # All shards were one array.
    shards = [record_of(world, f"scene_samples--{scene}").scheduler_id or "" for scene in SCENES]
    assert len({number.split("_")[0] for number in shards}) == 1
    assert sorted(number.split("_")[1] for number in shards) == ["0", "1", "2", "3"]
    # The rest were jobs, each by its own number.
    difix = world.platform.difix(world.cell())
    evaluated = "studio_pair03_dance"
    records = [
        read_json(difix.tuning_run("r1").job, JobRecord),
        record_of(world, "selected_checkpoint--r1"),
        record_of(world, "triplet_recording--r1"),
        *(
            record_of(world, f"{asset}--r1--{evaluated}")
            for asset in ("predictions", "nvs", "pose_smplx", "input_data_recording", "evaluation_recordings")
        ),
    ]
    assert {record.launcher for record in records} == {"slurm"}
    assert {record.returncode for record in records} == {0}
    assert len({record.scheduler_id for record in records}) == len(records)
    # What came out is what this machine makes, wherever it lies.
    here = finished_world.platform.difix(finished_world.cell())
    assert difix.all_samples.read_bytes() == here.all_samples.read_bytes()
    assert weights(difix.tuning_run("r1"), 4) == weights(here.tuning_run("r1"), 4)
    (tree,) = world.platform.evaluation_trees(world.cell()).values()
    assert tree.manifest.is_file()
    assert tree.evaluation_recording(1).is_file()
    assert difix.tuning_run("r1").triplet_recording.is_file()
    # Where it ran is told, and what the jobs said stands in the run's log.
    assert any("Slurm job" in line and "RUNNING on n" in line for line in world.lines)
    assert any(line.startswith("  [4/4] studio") and line.endswith("done") for line in world.lines)


# --- one run ---------------------------------------------------------------------------------------------------------


def weights(run: TuningRunTree, step: int) -> dict[str, bytes]:
    """The bytes of every tensor of a checkpoint: weights, and what resuming needs."""
    import torch

    found: dict[str, bytes] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(f"{name}.{key}", part)

    collect("", load_checkpoint(run.checkpoint(step)))
    assert len(found) > 10
    return found


def train(
    tree: DifixTree,
    launcher: LocalLauncher | SlurmLauncher,
    following: Following,
    run_name: str = "r1",
    **changes: object,
) -> TuningResult:
    run = make_run(**{"max_train_steps": STEPS[-1], "checkpointing_steps": STEPS[0], "eval_freq": STEPS[-1], **changes})
    return tune(tree, run_name, run, split=SPLIT, device="cpu", launcher=launcher, following=following)


def steps_done(tree: DifixTree, run_name: str = "r1") -> list[ProgressLine]:
    """Whole lines of a trainer's progress."""
    path = tree.tuning_run(run_name).progress
    text = path.read_text() if path.is_file() else ""
    return [ProgressLine.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def warn_after(tree: DifixTree, cluster: SlurmCluster, step: int, *words: str) -> Following:
    """Does something to the run's job once, when a step is done."""
    done: list[str] = []

    def look() -> None:
        if not done and any(line.event == "step" and line.step >= step for line in steps_done(tree)):
            done.append(str(read_json(tree.tuning_run("r1").job, JobRecord).scheduler_id))
            cluster.ask(*words, *done)

    return Following(poll=look)


def test_a_requeued_run_resumes_and_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, cluster: SlurmCluster
) -> None:
    whole, requeued = write_snapshot(tmp_path / "whole"), write_snapshot(tmp_path / "requeued")
    train(whole, LocalLauncher(), Following())

    result = train(requeued, SlurmLauncher(SITE), warn_after(requeued, cluster, 3, "scancel", "--signal=USR2"))

    assert result.steps == STEPS
    events = [line.event for line in steps_done(requeued)]
    assert events.count("start") == 2
    assert events.count("stopped") == 1
    assert weights(requeued.tuning_run("r1"), STEPS[-1]) == weights(whole.tuning_run("r1"), STEPS[-1])


def test_a_cancelled_run_keeps_its_last_checkpoint_and_goes_on_from_it(tmp_path: Path, cluster: SlurmCluster) -> None:
    tree = write_snapshot(tmp_path)
    launcher = SlurmLauncher(SITE)

    def cancel() -> bool:
        return any(line.event == "step" and line.step >= 10 for line in steps_done(tree))

    with pytest.raises(TrainerStopped):
        train(tree, launcher, Following(should_stop=cancel))
    record = read_json(tree.tuning_run("r1").job, JobRecord)
    assert record.scheduler_id not in cluster.queue()
    saved = [step for step in range(STEPS[-1]) if tree.tuning_run("r1").checkpoint_info(step).is_file()]
    assert saved[-1] >= 10

    assert train(tree, launcher, Following()).steps == STEPS


def test_more_processes_than_a_node_has_gpus_is_refused_before_the_snapshot_is_frozen(
    tmp_path: Path, cluster: SlurmCluster
) -> None:
    tree = write_snapshot(tmp_path)

    with pytest.raises(ThesisAssetsError, match="more GPUs than any node has"):
        train(tree, SlurmLauncher(SITE), Following(), num_processes=4)

    assert not tree.frozen.exists()
    assert not tree.tuning_runs_dir.exists()


# --- soak ------------------------------------------------------------------------------------------------------------


def node_of(cluster: SlurmCluster, number: str) -> str:
    return cluster.ask("squeue", "--noheader", f"--jobs={number}", "--format=%N").strip()


@pytest.mark.soak
def test_a_run_longer_than_its_time_limit_is_queued_again_until_it_is_done(
    tmp_path: Path, cluster: SlurmCluster
) -> None:
    whole, limited = write_snapshot(tmp_path / "whole"), write_snapshot(tmp_path / "limited")
    short = SITE.presets["tune_1gpu"].model_copy(update={"minutes": 1})
    site = SITE.model_copy(update={"presets": {"tune_1gpu": short}, "signal_seconds": 20})
    # As many steps as do not fit into a minute here, measured by the uninterrupted run.
    steps = 200
    train(whole, LocalLauncher(), Following(), max_train_steps=steps, checkpointing_steps=100)
    seconds = steps_done(whole)[-1].seconds
    steps = int(steps * 75 / seconds)
    train(whole, LocalLauncher(), Following(), run_name="long", max_train_steps=steps, checkpointing_steps=100)

    result = train(
        limited, SlurmLauncher(site), Following(), run_name="long", max_train_steps=steps, checkpointing_steps=100
    )

    assert result.steps[-1] == steps
    events = [line.event for line in steps_done(limited, "long")]
    assert events.count("start") >= 2
    assert weights(limited.tuning_run("long"), steps) == weights(whole.tuning_run("long"), steps)


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["set down", "power cut"])
def test_a_run_whose_node_is_lost_goes_on_on_another_from_its_last_checkpoint(
    tmp_path: Path, cluster: SlurmCluster, fault: str
) -> None:
    whole, moved = write_snapshot(tmp_path / "whole"), write_snapshot(tmp_path / "moved")
    train(whole, LocalLauncher(), Following(), checkpointing_steps=50)
    lost: list[str] = []

    def lose_node() -> None:
        if not lost and any(line.event == "step" and line.step >= 60 for line in steps_done(moved)):
            lost.append(node_of(cluster, str(read_json(moved.tuning_run("r1").job, JobRecord).scheduler_id)))
            if fault == "set down":
                cluster.ask("scontrol", "update", f"nodename={lost[0]}", "state=down", "reason=test")
            else:
                cluster.kill_node(lost[0])

    try:
        result = train(moved, SlurmLauncher(SITE), Following(poll=lose_node), checkpointing_steps=50)
    finally:
        for node in lost:
            if fault == "power cut":
                cluster.start_node(node)
            cluster.ask("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        cluster.wait_for_nodes()

    assert lost
    assert result.steps[-1] == STEPS[-1]
    assert [line.event for line in steps_done(moved)].count("start") == 2
    assert weights(moved.tuning_run("r1"), STEPS[-1]) == weights(whole.tuning_run("r1"), STEPS[-1])
