"""The backend `external`: the user's script, started, its progress told, and ended after its last wanted save.

python run_external.py <run directory> <external, as JSON>

The settings stand in the run's `train_config.json`. The published script stops neither at its steps nor when it is asked to, and
writes nothing about itself: what our trainers do by themselves is done here around it. Below the program: the script's command
line, the bar that it draws, and the checkpoints that it writes.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.experiments.command_template import in_environment as user_words
from thesis_assets.experiments.spec import External, published_steps
from thesis_assets.launch.commands import end_running, run_command
from thesis_assets.launch.jobs import log_tail
from thesis_assets.launch.local_jobs import refuse_volta
from thesis_assets.launch.supervisors import watched
from thesis_assets.layout import TuningRunTree, parse_checkpoint_step
from thesis_assets.provenance.contents import Stat, stat_of
from thesis_assets.schemas.samples import DataJson
from thesis_assets.schemas.tuning import CheckpointInfo, JobRecord, TrainConfig
from thesis_assets.splits.snapshot_guard import look_at_data
from thesis_assets.storage import full_disk_explained, read_json, write_json
from thesis_assets.tuning.checkpoints import kept_steps, list_checkpoints, register_checkpoint, verify_checkpoint
from thesis_assets.tuning.patient_launch import available_cores, forget_other_launches, threads_per_process
from thesis_assets.tuning.progress_file import NotFinite, ProgressWriter, StopRequest, TrainerReport, stop_on_signals
from thesis_assets.tuning.scoring import evaluate_saved
from thesis_assets.tuning.trainer_start import SCRIPT_FLAGS, launcher_words

LOOK_SECONDS = 1.0
"""Between two looks at the folder; a file that kept its size so long, and has its end, is whole."""
GRACE_SECONDS = 3.0
"""The script saves nothing when it is asked to end; its processes need only the time to leave."""
DEAF_TO_WARNINGS = ("bash", "-c", 'trap "" USR2; exec "$@"', "bash")
"""A cluster warns every process of a job by SIGUSR2. It is answered here: the script, which knows nothing of it, would die first."""


def main(run_directory: str, external: str) -> int:
    """Run the script. Returns the exit status."""
    tree = TuningRunTree(Path(run_directory).absolute())
    forget_other_launches()
    with stop_on_signals() as stop:
        config = read_json(tree.train_config, TrainConfig)
        steps = published_steps(config.flags["max_train_steps"], config.flags["checkpointing_steps"])
        wanted = kept_steps(tree, steps)
        report = TrainerReport(ProgressWriter(tree.progress), wanted[-1])
        try:
            with full_disk_explained(tree.base):
                run = _ScriptRun(tree, config, wanted, report, stop)
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
        self, tree: TuningRunTree, config: TrainConfig, wanted: list[int], report: TrainerReport, stop: StopRequest
    ) -> None:
        self._tree, self._config, self._wanted, self._report, self._stop = tree, config, wanted, report, stop
        self._stdout, self._stderr = tree.logs_dir / "stdout.log", tree.logs_dir / "stderr.log"
        self._saved = SavedFiles(tree, config, wanted)
        self._bar = ProgressBar(self._stderr, config.flags["max_train_steps"])
        self._looked = time.monotonic()
        self._told = 0

    def to_its_end(self, external: External) -> bool:
        """Whether every wanted checkpoint is there. False: a signal asked to stop.

        Raises:
            ThesisAssetsError: the script cannot be started, ended by itself before that, or its loss is not finite.
        """
        if self._config.device != "cpu" and self._config.flags["mixed_precision"] == "bf16":
            refuse_volta()
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
        device = self._config.device
        assert device is not None, "of an adopted run, which is not trained here"
        # It begins an epoch wherever it goes on: by the same seed it would read the head of the first one again.
        settings["seed"] += self._told
        command, notes = script_command(external, settings, known, device=device, resume=resume)
        if resume is not None and "resume" not in known:
            raise InvalidFile(
                "the script cannot go on from a checkpoint: it has no flag --resume",
                file=external.script,
                found=f"{resume.name} and {len(self._saved.missing)} saves to come",
                remedy="train the run anew under another name, or in one go with a script that resumes",
            )
        write_json(self._tree.train_config, self._config.model_copy(update={"script_command": command}))
        told = [f"{self._config.n_train_samples} samples on {self._config.device}, by {external.script}"]
        if resume is not None:
            told.append(
                f"goes on from {resume.name}, by seed {settings['seed']}; the script's own schedule starts anew"
            )
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
        for told in self._bar.new_steps(ended=True):
            self._tell(told)
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
        if not self._told < told.step <= self._wanted[-1]:
            return
        self._told = told.step
        self._report.step = max(self._report.step, told.step)
        speed, flags = told.steps_per_second, self._config.flags
        batch = flags["train_batch_size"] * flags["gradient_accumulation_steps"] * flags["num_processes"]
        self._report.write(
            event="step",
            step=told.step,
            loss=told.loss,
            learning_rate=told.learning_rate,
            samples_per_second=speed * batch if speed else None,
            seconds_left=(self._wanted[-1] - told.step) / speed if speed else None,
        )

    def _tell_saved(self, *, settled: bool) -> None:
        for info in self._saved.newly_whole(settled=settled):
            self._report.step = max(self._report.step, info.step)
            # Seen some steps after it was saved.
            self._report.write(event="checkpoint", step=info.step, message=self._tree.checkpoint(info.step).name)

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
                self._told = self._report.step = step
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


HELP_SECONDS = 600.0
"""Imports of torch and wandb from a busy network file system take minutes."""
MODEL_FLAGS = ("base_model_id", "pretrained_model_name_or_path")


def in_environment(external: External, words: Sequence[str]) -> list[str]:
    """`words` by the script's interpreter, after the set-up lines, in the same bash; the first line that fails ends it."""
    # What points this interpreter at its own packages would point the script's at them too.
    ours = [name for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV") if name not in external.env]
    clean = ["env", *(word for name in ours for word in ("-u", name))]
    return [*clean, *user_words(["python", *words], external)]


def working_directory(external: External) -> Path | None:
    """Where the script runs; None: where the job does."""
    return Path(external.cwd).expanduser() if external.cwd is not None else None


def known_flags(external: External, env: Mapping[str, str]) -> set[str]:
    """The flags that the script's `--help` lists; `InvalidFile`, with the end of its words: it cannot be asked."""
    command = in_environment(external, [external.script, "--help"])
    try:
        told = subprocess.run(
            command,
            cwd=working_directory(external),
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HELP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_help(external, str(error)) from error
    flags = set(re.findall(r"(?<![\w-])--([A-Za-z][\w-]*)", told.stdout)) - {"help"}
    if told.returncode != 0 or not flags:
        raise _no_help(
            external, f"status {told.returncode}\n" + "\n".join((told.stdout + told.stderr).splitlines()[-25:])
        )
    return flags


def _no_help(external: External, found: str) -> InvalidFile:
    return InvalidFile(
        "the trainer script does not say which flags it takes",
        file=external.script,
        key="runs.<run_name>.external",
        found=found,
        wanted="`--help` with status 0: so it is found out which of the published flags this copy has",
        remedy="correct external.python, setup or cwd, until the script starts there; the published one needs a data loader of "
        "your own",
    )


def script_command(
    external: External, settings: Mapping[str, Any], known: Collection[str], *, device: str, resume: Path | None
) -> tuple[list[str], list[str]]:
    """The whole command, and a note for each setting that the script has no flag for.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`.
        resume: the checkpoint to go on from.
    """
    wanted: dict[str, Any] = {name: settings.get(name) for name in SCRIPT_FLAGS}
    # One of the two names is enough; a copy that lists both takes the published one.
    spare = MODEL_FLAGS[1] if MODEL_FLAGS[0] in known or MODEL_FLAGS[1] not in known else MODEL_FLAGS[0]
    del wanted[spare]
    wanted["dataloader_num_workers"] = min(wanted["dataloader_num_workers"], max(0, available_cores() - 1))
    if resume is not None:
        wanted["resume"] = str(resume)
    notes = [
        f"{name} = {value}: the script has no such flag"
        for name, value in wanted.items()
        if name not in known and value not in (None, False)
    ]
    flags = [word for name, value in wanted.items() if name in known for word in _words(name, value)]
    launcher = launcher_words(device, settings["num_processes"], settings["mixed_precision"])
    words = ["-m", *launcher, external.script, *flags, *settings["extra_args"]]
    return in_environment(external, words), notes


def _words(name: str, value: object) -> list[str]:
    if value is None or value is False:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


def script_environment(external: External, tracker: str, processes: int) -> dict[str, str]:
    """The variables that the script has beside those of the job; the user's own win.

    Args:
        tracker: the run's.
        processes: that train side by side; each has its share of the cores here.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(threads_per_process(processes)))
    # It imports wandb and logs to it in any case.
    quiet = {} if tracker == "wandb" else {"WANDB_MODE": "disabled"}
    return {**quiet, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads, **external.env}


MAX_BYTES = 1024 * 1024
"""Of a log that are read at a time."""

_BAR = re.compile(
    r"(?P<title>[^|\r\n]*?):?\s*(?:\d+%\|[^|]*\|\s*)?(?P<step>\d+)(?:/(?P<total>\d+)|it) \[(?P<inside>\d+:\d\d[^\]]*)\]"
)
_RATE = re.compile(r"(?P<rate>[\d.]+)\s*(?P<unit>it/s|s/it)")
_VALUE = re.compile(r"(?P<name>[A-Za-z_][\w/ ]*?)=(?P<value>[-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))(?=[,\s\]]|$)", re.I)


@dataclass(frozen=True)
class ToldStep:
    """What one drawing of the bar says. `loss`: the value of that name, else the sum of those that begin so."""

    step: int
    loss: float | None
    learning_rate: float | None
    steps_per_second: float | None


class ProgressBar:
    """Follows a log from its present end.

    Args:
        total: of the training's bar; bars of other lengths (validation, downloads) are passed over.
    """

    def __init__(self, log: Path, total: int) -> None:
        self._log, self._total = log, total
        self._offset = log.stat().st_size if log.is_file() else 0
        self._rest = ""
        self._title: str | None = None
        self._drawn: ToldStep | None = None
        self._drawn_at = 0.0

    def new_steps(self, *, ended: bool = False) -> Iterator[ToldStep]:
        """Each step by its last drawing: the first one of a step still has the values of the step before.

        A step is done with when the next is drawn, when nothing was drawn for `LOOK_SECONDS`, or when the script has `ended`.
        """
        for drawn in self._drawings():
            if self._drawn is not None and drawn.step != self._drawn.step:
                yield self._drawn
            self._drawn, self._drawn_at = drawn, time.monotonic()
        if self._drawn is not None and (ended or time.monotonic() - self._drawn_at >= LOOK_SECONDS):
            yield self._drawn
            self._drawn = None

    def _drawings(self) -> Iterator[ToldStep]:
        """The drawings since the last call, whole ones."""
        if not self._log.is_file():
            return
        with self._log.open("rb") as handle:
            handle.seek(self._offset)
            content = handle.read(MAX_BYTES)
        self._offset += len(content)
        *whole, self._rest = re.split(r"[\r\n]", self._rest + content.decode("utf-8", errors="replace"))
        if self._rest.endswith("]"):
            # A bar's last drawing has no end of line.
            whole.append(self._rest)
            self._rest = ""
        for line in whole:
            told = self._read(line)
            if told is not None:
                yield told

    def _read(self, line: str) -> ToldStep | None:
        bar = _BAR.search(line)
        if bar is None:
            return None
        title = bar["title"].strip()
        if bar["total"] is not None and int(bar["total"]) == self._total:
            self._title = title
        elif bar["total"] is not None or title != self._title:
            # Beyond its total a bar has none: it is the training's by its title.
            return None
        values = {found["name"].strip(): float(found["value"]) for found in _VALUE.finditer(bar["inside"])}
        rate = _RATE.search(bar["inside"])
        speed = float(rate["rate"]) if rate else 0.0
        if rate and rate["unit"] == "s/it" and speed:
            speed = 1 / speed
        losses = [value for name, value in values.items() if name.startswith("loss")]
        return ToldStep(
            step=int(bar["step"]),
            loss=values.get("loss", sum(losses) if losses else None),
            learning_rate=values.get("lr", values.get("learning_rate")),
            steps_per_second=speed or None,
        )


class SavedFiles:
    """Watches `checkpoints/` for the wanted steps."""

    def __init__(self, tree: TuningRunTree, config: TrainConfig, wanted: Sequence[int]) -> None:
        self._tree, self._config = tree, config
        self._before: dict[int, Stat] = {}
        finished = set(list_checkpoints(tree))
        self.missing = [step for step in wanted if step not in finished]

    def newly_whole(self, *, settled: bool = False) -> list[CheckpointInfo]:
        """Those that became whole since the last call, verified.

        Args:
            settled: nobody writes any more; else a file must have kept its size and time since the last call.

        Raises:
            InvalidFile: a whole file is no checkpoint, or a weight is not finite.
        """
        whole = [step for step in self.missing if self._is_whole(step, settled)]
        infos = [register_checkpoint(self._tree, step, self._config) for step in whole]
        self.missing = [step for step in self.missing if step not in whole]
        return infos

    def _is_whole(self, step: int, settled: bool) -> bool:
        path = self._tree.checkpoint(step)
        now, before = stat_of(path), self._before.get(step)
        if now is None:
            return False
        self._before[step] = now
        # A zip archive has its directory at its end: without that it is still being written.
        return (settled or now == before) and zipfile.is_zipfile(path)

    def remove_unfinished(self) -> list[str]:
        """Take away the `.pkl` files without a side file: cut off by the script's end, or saved beyond the last wanted step.

        The script reads a step out of every `.pkl` name when it is told to go on from the folder.
        """
        finished = set(list_checkpoints(self._tree))
        removed = []
        for path in sorted(self._tree.checkpoints_dir.glob("*.pkl")):
            if parse_checkpoint_step(path.name) not in finished:
                path.unlink()
                removed.append(path.name)
        return removed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
