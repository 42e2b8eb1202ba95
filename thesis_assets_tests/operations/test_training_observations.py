"""What a running and a finished training show in the UI: numbers that plot, curves and pictures, the job and its logs."""

from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.nodes import latest_metadata
from thesis_assets.layout import TuningRunTree
from thesis_assets.operations.training_observations import (
    CONTACT_SHEET,
    TrainingWatch,
    final_numbers,
    job_metadata,
    progress_text,
)
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets_tests.worlds import World


def step(number: int, **fields: float) -> ProgressLine:
    return ProgressLine(event="step", step=number, max_steps=9000, seconds=number, **fields)  # type: ignore[arg-type]


def observed(world: World) -> list[dict[str, dg.MetadataValue]]:
    """The metadata of the run's observations, from the first on."""
    with world.instance() as instance:
        found = instance.fetch_observations(dg.AssetKey("tuned_checkpoint"), limit=100).records
    events = [record.asset_observation for record in reversed(found)]
    assert all(event is not None and event.partition == world.cell().key for event in events)
    return [dict(event.metadata) for event in events if event is not None]


def test_a_training_is_observed_while_it_runs(finished_world: World) -> None:
    start, *later = observed(finished_world)
    assert {"what", "launcher", "job id", "host", "stdout", "stderr"} <= start.keys()
    first = later[0]
    assert {"step", "loss", "learning rate", "samples/s", "minutes left"} <= first.keys()
    assert all(isinstance(first[name], dg.FloatMetadataValue) for name in ("loss", "learning rate", "samples/s"))
    evaluations = [metadata for metadata in later if "psnr refined" in metadata]
    assert [metadata["step"].value for metadata in evaluations] == [2, 4]
    for metadata in evaluations:
        for name in ("curves", CONTACT_SHEET):
            assert str(metadata[name].value).startswith("![")
            assert len(str(metadata[name].value)) < 100_000


def test_a_finished_training_shows_its_numbers_by_the_same_names_with_curves_and_pictures(
    finished_world: World,
) -> None:
    with finished_world.instance() as instance:
        metadata = latest_metadata(instance, "tuned_checkpoint", finished_world.cell())
    assert metadata is not None
    numbers = {"loss", "learning rate", "samples/s", "psnr refined", "psnr render"}
    assert all(isinstance(metadata[name], float) for name in numbers)
    assert metadata["step"] == 4
    assert str(metadata["curves"]).startswith("![](data:image/")
    assert CONTACT_SHEET in metadata
    for name in ("stdout", "stderr"):
        assert Path(str(metadata[name])).is_file()
    assert metadata["launcher"] == "local"
    assert metadata["job id"]


def test_single_steps_are_thinned_out_and_events_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the event log a step would be ten thousand of them."""

    class Context:
        def __init__(self) -> None:
            self.observations: list[dg.AssetObservation] = []

        def log_event(self, event: dg.AssetObservation) -> None:
            self.observations.append(event)

    context, lines, now = Context(), [], [0.0]
    monkeypatch.setattr("thesis_assets.operations.training_observations.time.monotonic", lambda: now[0])
    from thesis_assets.graph.cells import Cell

    watch = TrainingWatch(context.log_event, Cell("v1", run_name="r1"), TuningRunTree(tmp_path), lines.append)  # type: ignore[arg-type]

    def train(until: int) -> tuple[int, int]:
        for second in range(int(now[0]), until):
            now[0] = float(second)
            watch.see(step(second, loss=1.0))
        return len(lines), len(context.observations)

    assert train(60) == (12, 12)
    _, after_an_hour = train(3600)
    _, after_two = train(7200)
    assert after_two - after_an_hour == 60
    before = (len(lines), len(context.observations))
    watch.see(ProgressLine(event="checkpoint", step=7200, max_steps=9000, seconds=600))
    watch.see(ProgressLine(event="eval", step=7200, max_steps=9000, seconds=600, metrics={"psnr_refined": 30.0}))
    assert (len(lines), len(context.observations)) == (before[0] + 2, before[1] + 1)
    assert {"loss", "psnr refined"} <= context.observations[-1].metadata.keys()


def test_time_left_is_said_as_a_person_would() -> None:
    assert progress_text(step(10, loss=0.25, learning_rate=2e-5, samples_per_second=3.0, seconds_left=7500.0)) == (
        "step 10/9000, loss 0.25000, lr 2.00e-05, 3.0 samples/s, 2 h 05 min left"
    )
    assert progress_text(step(10, seconds_left=42.4)).endswith(", 42 s left")
    assert progress_text(step(10, seconds_left=185.0)).endswith(", 3 min left")
    measured = {"skipped_steps": 0.0, "peak_memory_gb": 0.5, "gradient_norm": 0.1}
    assert progress_text(step(10, seconds_left=42.4, metrics=measured)).endswith(", 42 s left"), "of these are curves"
    assert progress_text(step(10, seconds_left=42.4, metrics=measured | {"skipped_steps": 2.0})).endswith(
        "2 steps skipped"
    )


def test_numbers_of_a_run_that_told_none_are_left_out() -> None:
    assert final_numbers({"step": [], "loss": [], "eval_step": [0.0], "psnr_refined": [23.0]}).keys() == {
        "psnr refined"
    }
    values = final_numbers({"step": [1, 2], "loss": [0.5, float("nan")], "samples_per_second": [1.0, 3.0]})
    assert {name: value.value for name, value in values.items()} == {"loss": 0.5, "samples/s": 2.0, "step": 2}


def test_the_page_at_wandb_is_linked_where_the_log_names_it(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    log.write_text("wandb: \x1b[34mView run at https://wandb.ai/someone/difix/runs/a1b2c3\x1b[0m\nSteps: 1/2\n")
    record = JobRecord(
        launcher="slurm",
        host="n0",
        process_group=None,
        job_id="j",
        started_at="now",
        command=["x"],
        stdout=str(tmp_path / "stdout.log"),
        stderr=str(log),
    )
    tree = TuningRunTree(tmp_path / "run")
    assert job_metadata(tree, record)["tracker"].value == "https://wandb.ai/someone/difix/runs/a1b2c3"
    log.write_text("nothing of that kind, see https://wandb.ai/site")
    assert "tracker" not in job_metadata(tree, record)
    tree.logs_dir.mkdir(parents=True)
    line = ProgressLine(event="start", step=0, max_steps=9, seconds=0, tracker_url="https://example.org/runs/r1")
    tree.progress.write_text(line.model_dump_json() + "\n")
    assert job_metadata(tree, record)["tracker"].value == "https://example.org/runs/r1"


def test_on_a_cluster_the_job_id_is_the_one_that_the_queue_shows(tmp_path: Path) -> None:
    record = JobRecord(
        launcher="slurm",
        host="n0",
        process_group=None,
        job_id="a1b2",
        scheduler_id="417",
        started_at="now",
        command=["x"],
        stdout="o",
        stderr="e",
    )
    assert job_metadata(TuningRunTree(tmp_path), record)["job id"].value == "417"
