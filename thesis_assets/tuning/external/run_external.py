"""The program of the backend `external`: starts the user's script, tells its progress, and ends it after its last wanted save.

python run_external.py <run directory> <external, as JSON>

The settings stand in the run's `train_config.json`. The published script stops neither at its steps nor when it is asked to, and
writes nothing about itself: what our trainers do by themselves is done here around it.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.experiments.spec import External, published_steps
from thesis_assets.launch.commands import end_running, run_command
from thesis_assets.launch.jobs import log_tail
from thesis_assets.launch.starter_watch import watched
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.samples import DataJson
from thesis_assets.schemas.tuning import JobRecord, ProgressLine, TrainConfig
from thesis_assets.splits.snapshot_guard import look_at_data
from thesis_assets.storage import full_disk_explained, read_json, write_json
from thesis_assets.tuning.checkpoints import kept_steps, list_checkpoints, verify_checkpoint
from thesis_assets.tuning.external.progress_bar import ProgressBar, ToldStep
from thesis_assets.tuning.external.saved_files import SavedFiles
from thesis_assets.tuning.external.script_command import (
    known_flags,
    script_command,
    script_environment,
    working_directory,
)
from thesis_assets.tuning.progress_file import ProgressWriter
from thesis_assets.tuning.saved_evaluation import evaluate_saved
from thesis_assets.tuning.stop_signals import StopRequest, stop_on_signals
from thesis_assets.tuning.trainer_report import TrainerReport
from thesis_assets.tuning.training_faults import NotFinite

LOOK_SECONDS = 1.0
"""Between two looks at the folder; a file that kept its size so long, and has its end, is whole."""
GRACE_SECONDS = 3.0
"""The script saves nothing when it is asked to end; its processes need only the time to leave."""
DEAF_TO_WARNINGS = ("bash", "-c", 'trap "" USR2; exec "$@"', "bash")
"""A cluster warns every process of a job by SIGUSR2. It is answered here: the script, which knows nothing of it, would die first."""


def main(run_directory: str, external: str) -> int:
    """Run the script. Returns the exit status."""
    tree = TuningRunTree(Path(run_directory).absolute())
    with stop_on_signals() as stop:
        config = read_json(tree.train_config, TrainConfig)
        steps = published_steps(config.flags["max_train_steps"], config.flags["checkpointing_steps"])
        wanted = kept_steps(tree, steps)
        writer = ProgressWriter(tree.progress)
        report = TrainerReport(writer, wanted[-1])
        try:
            with full_disk_explained(tree.base):
                run = _ScriptRun(tree, config, wanted, report, writer, stop)
                finished = run.to_its_end(External.model_validate_json(external))
                remark = _evaluate(tree, config, wanted[-1], report) if finished else f"asked by {stop.signal_name}"
        except ThesisAssetsError as error:
            if stop:
                # Asked to end, the script may have failed of that: its `--help` too.
                report.event("stopped", f"asked by {stop.signal_name}")
                return 0
            report.failed(str(error))
            sys.stderr.write(f"run_external: {error}\n")
            return 1
        report.event("done" if finished else "stopped", remark)
    return 0


class _ScriptRun:
    """One start of the script, from the newest checkpoint that verifies to the last wanted one."""

    def __init__(
        self,
        tree: TuningRunTree,
        config: TrainConfig,
        wanted: list[int],
        report: TrainerReport,
        writer: ProgressWriter,
        stop: StopRequest,
    ) -> None:
        self._tree, self._config, self._wanted = tree, config, wanted
        self._report, self._writer, self._stop = report, writer, stop
        self._stdout, self._stderr = tree.logs_dir / "stdout.log", tree.logs_dir / "stderr.log"
        self._saved = SavedFiles(tree, config, wanted)
        self._bar = ProgressBar(self._stderr, config.flags["max_train_steps"])
        self._began = self._looked = time.monotonic()

    def to_its_end(self, external: External) -> bool:
        """Whether every wanted checkpoint is there. False: a signal asked to stop.

        Raises:
            ThesisAssetsError: the script cannot be started, ended by itself before that, or its loss is not finite.
        """
        look_at_data(self._tree.snapshot)
        # As its folder lies now: the configuration keeps the paths of the first launch.
        data_json = self._tree.snapshot.data_json
        settings = {**self._config.flags, "dataset_path": str(data_json), "output_dir": str(self._tree.base)}
        _check_references(data_json, settings)
        if self._tree.script_job.is_file():
            # Of an attempt that was killed outright, before it could end its script.
            end_running(read_json(self._tree.script_job, JobRecord), grace_seconds=GRACE_SECONDS)
        # The last attempt may have saved one, or half of one, that nobody looked at any more.
        self._tell_saved(settled=True)
        removed = self._saved.remove_unfinished()
        if not self._saved.missing:
            return True
        resume = self._newest()
        env = script_environment(external, self._config.flags["tracker"], self._config.flags["num_processes"])
        known = known_flags(external, env)
        command, notes = script_command(external, settings, known, device=self._config.device, resume=resume)
        if resume is not None and "resume" not in known:
            raise InvalidFile(
                "the script cannot go on from a checkpoint: it has no flag --resume",
                file=external.script,
                found=f"{resume.name} and {len(self._saved.missing)} saves to come",
                remedy="train the run anew under another name, or in one go with a script that resumes",
            )
        write_json(self._tree.train_config, self._config.model_copy(update={"script_command": command}))
        told = [f"{self._config.n_train_samples} samples on {self._config.device}, by {external.script}"]
        told += [f"goes on from {resume.name}"] if resume is not None else []
        told += [f"removed {name}, which was not whole" for name in removed]
        self._report.event("start", "; ".join([*told, *notes]))
        return self._follow(external, command, env)

    def _follow(self, external: External, command: list[str], env: Mapping[str, str]) -> bool:
        start = self._stderr.stat().st_size if self._stderr.is_file() else 0
        returncode = run_command(
            [*DEAF_TO_WARNINGS, *watched(command)],
            stdout=self._stdout,
            stderr=self._stderr,
            job=self._tree.script_job,
            cwd=working_directory(external),
            env=env,
            poll=self._look,
            should_stop=lambda: bool(self._stop) or not self._saved.missing,
            grace_seconds=GRACE_SECONDS,
        )
        self._tell_saved(settled=True)
        removed = self._saved.remove_unfinished()
        if not self._saved.missing:
            return True
        if self._stop:
            return False
        how = f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"
        raise InvalidFile(
            f"the script ended {how} after step {self._report.step}, before its save at step {self._saved.missing[0]}",
            file=self._stderr,
            found="\n" + log_tail(self._stderr, start=start) + ("\nremoved: " + ", ".join(removed) if removed else ""),
            wanted=f"checkpoints of the steps {self._wanted}",
            remedy="correct its cause, then start the run again: it goes on from its last checkpoint",
        )

    def _look(self) -> None:
        for told in self._bar.new_steps():
            self._tell(told)
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._tell_saved(settled=False)

    def _tell(self, told: ToldStep) -> None:
        if told.loss is not None and not math.isfinite(told.loss):
            raise NotFinite(
                f"the loss is not finite at step {told.step}",
                found=told.loss,
                remedy="lower learning_rate, or clip gradients (max_grad_norm), under another run name. "
                "The last checkpoint is intact",
            )
        # What it does after its last wanted save is nobody's.
        if not self._report.step < told.step <= self._wanted[-1]:
            return
        self._report.step = told.step
        speed, flags = told.steps_per_second, self._config.flags
        batch = flags["train_batch_size"] * flags["gradient_accumulation_steps"] * flags["num_processes"]
        self._write(
            "step",
            told.step,
            loss=told.loss,
            learning_rate=told.learning_rate,
            samples_per_second=speed * batch if speed else None,
            seconds_left=(self._wanted[-1] - told.step) / speed if speed else None,
        )

    def _tell_saved(self, *, settled: bool) -> None:
        for info in self._saved.newly_whole(settled=settled):
            self._report.step = max(self._report.step, info.step)
            # Seen some steps after it was saved.
            self._write("checkpoint", info.step, message=self._tree.checkpoint(info.step).name)

    def _write(self, event: Literal["step", "checkpoint"], step: int, **fields: Any) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        self._writer.write(ProgressLine(event=event, step=step, max_steps=self._wanted[-1], seconds=seconds, **fields))

    def _newest(self) -> Path | None:
        """The newest checkpoint that verifies; those after it are removed, so that the script writes them again."""
        for step in reversed(list_checkpoints(self._tree)):
            try:
                verify_checkpoint(self._tree, step)
            except InvalidFile as error:
                sys.stderr.write(f"run_external: {error}\n")
                self._tree.checkpoint_info(step).unlink()
                self._tree.checkpoint(step).unlink(missing_ok=True)
            else:
                self._report.step = step
                self._saved = SavedFiles(self._tree, self._config, self._wanted)
                return self._tree.checkpoint(step)
        self._saved = SavedFiles(self._tree, self._config, self._wanted)
        return None


def _check_references(data_json: Path, flags: Mapping[str, Any]) -> None:
    """The published data loader needs a reference on every sample or on none, and `mv_unet` needs them."""
    data = read_json(data_json, DataJson, max_bytes=4 * 1024**3)
    for name, samples in (("train", data.train), ("test", data.test)):
        without = [sample_id for sample_id, entry in samples.items() if entry.ref_image is None]
        if without and (len(without) < len(samples) or flags["mv_unet"]):
            raise InvalidFile(
                "some samples have no reference image",
                file=data_json,
                key=f"{name}.{without[0]}.ref_image",
                found=f"{len(without)} of {len(samples)} without one",
                wanted="a reference on all of them (or on none, with mv_unet: false)",
                remedy="export the samples again, or leave those without one out",
            )


def _evaluate(tree: TuningRunTree, config: TrainConfig, step: int, report: TrainerReport) -> str:
    """Score the last checkpoint. A training is not lost for that: where it cannot be run here, the returned remark says why."""
    try:
        evaluate_saved(tree, config, step, report)
    except ThesisAssetsError as error:
        return f"step {step} is not evaluated: {' '.join(str(error).split())}"
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
