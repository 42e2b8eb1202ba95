"""What Slurm's own commands say: how jobs stand, what the nodes have; and cancelling. Works without accounting (`sacct`)."""

from __future__ import annotations

import getpass
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.slurm_presets import Preset

ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
    | {"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
"""States in which a job still waits, runs, or clears up; all others are ends."""
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Seen:
    """One job as the queue shows it."""

    state: str
    node: str
    reason: str
    comment: str

    @property
    def is_alive(self) -> bool:
        return self.state in ALIVE

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        return f"{self.state}{where}" + (f" ({self.reason})" if self.reason not in ("", "None") else "")


class SlurmQueue:
    """This user's jobs, asked for all at once and not too often: every question is work for the cluster's one controller."""

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._seen: dict[str, Seen] = {}
        self._asked_at = float("-inf")
        self.silence: str | None = None
        """Why the last question was not answered; None where it was."""

    def look(self, job: str) -> Seen | None:
        """How a job stood when it was last asked; None where the queue has dropped it."""
        if time.monotonic() - self._asked_at >= self._poll_seconds:
            self.refresh()
        return self._seen.get(job)

    def number_of(self, comment: str) -> str | None:
        """Slurm's number of the job with this comment, which its submitter did not live to write down; None where there is none."""
        if time.monotonic() - self._asked_at >= self._poll_seconds:
            self.refresh()
        return next((job for job, seen in self._seen.items() if seen.comment == comment), None)

    def forget(self) -> None:
        """Ask anew at the next look."""
        self._asked_at = float("-inf")

    def refresh(self) -> None:
        """Ask now. Where there is no answer, what was known stays."""
        self._asked_at = time.monotonic()
        words = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}"]
        try:
            answer = ask([*words, "--format=%i|%T|%N|%r|%k"])
        except ThesisAssetsError as error:
            self.silence = str(error.found)
            return
        self.silence = None
        rows = [[word.strip() for word in line.split("|", 4)] for line in answer.splitlines() if line.count("|") >= 4]
        self._seen = {job: Seen(*words) for job, *words in rows}

    def cancel(self, jobs: Sequence[str], *, wait_seconds: float) -> list[str]:
        """Cancel jobs, and wait until they are gone. Returns those that are not in that time."""
        left = list(jobs)
        if not left:
            return left
        subprocess.run(["scancel", "--quiet", *left], capture_output=True, timeout=ANSWER_SECONDS, check=False)
        deadline = time.monotonic() + wait_seconds
        while True:
            self.refresh()
            left = [job for job in left if (seen := self._seen.get(job)) is not None and seen.is_alive]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.5)


def ask(words: Sequence[str]) -> str:
    """What one of Slurm's commands answers.

    Raises:
        ThesisAssetsError: it is not installed, or fails, or does not answer.
    """
    remedy = "look whether this machine belongs to the cluster (`sinfo`); THESIS_LAUNCHER=local works without one"
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except FileNotFoundError as error:
        raise ThesisAssetsError(
            "Slurm's commands are not installed here", file=words[0], found="no such program", remedy=remedy
        ) from error
    except subprocess.TimeoutExpired as error:
        found = f"{words[0]}: no answer in {ANSWER_SECONDS} s"
        raise ThesisAssetsError("Slurm does not answer", found=found, remedy=remedy) from error
    if result.returncode != 0:
        found = f"{words[0]}: {result.stderr.strip()[-500:]}"
        raise ThesisAssetsError("Slurm does not answer", found=found, remedy=remedy)
    return result.stdout


@dataclass(frozen=True)
class Node:
    """What one node of a partition has. `memory_gb`: as jobs may ask for it."""

    name: str
    gpus: int
    cores: int
    memory_gb: float


def require_node(preset_name: str, preset: Preset, partition: str | None) -> None:
    """Refuse what no node of the partition has, before anything is submitted.

    Raises:
        ThesisAssetsError: with what the largest node has.
    """
    nodes = list_nodes(partition)
    if any(_holds(node, preset) for node in nodes):
        return
    if not nodes:
        raise ThesisAssetsError(
            "Slurm has no node there",
            key="THESIS_SLURM_PARTITION",
            found=_place(partition),
            remedy="`sinfo` lists the partitions",
        )
    most = max((node.gpus for node in nodes), default=0)
    if preset.asked_gpus > most:
        raise ThesisAssetsError(
            "the job wants more GPUs than any node has, and a job runs on one node",
            key=f"preset {preset_name}",
            found=f"{preset.asked_gpus} GPUs",
            wanted=f"at most {most} ({_place(partition)})",
            remedy="lower num_processes, choose a smaller preset, or another THESIS_SLURM_PARTITION",
        )
    shown = ", ".join(sorted({f"{node.gpus} GPUs, {node.cores} cores, {node.memory_gb:.0f} GB" for node in nodes})[:5])
    raise ThesisAssetsError(
        "the job wants more than any node has",
        key=f"preset {preset_name}",
        found=f"{preset.asked_gpus} GPUs, {preset.cores} cores, {preset.memory_gb:g} GB",
        wanted=f"what one node has: {shown or 'there is no node'} ({_place(partition)})",
        remedy=f"change the preset {preset_name} by THESIS_SLURM_PRESETS (docs/slurm.md)",
    )


def _place(partition: str | None) -> str:
    return f"partition {partition}" if partition else "the default partition"


def _holds(node: Node, preset: Preset) -> bool:
    return node.gpus >= preset.asked_gpus and node.cores >= preset.cores and node.memory_gb >= preset.memory_gb


def list_nodes(partition: str | None) -> list[Node]:
    """The nodes of a partition, of the default one where none is named."""
    chosen = [f"--partition={partition}"] if partition else []
    rows = [
        line.split("|")
        for line in ask(["sinfo", "--noheader", "--Node", *chosen, "--format=%N|%G|%c|%m|%P"]).splitlines()
        if line.count("|") == 4
    ]
    if not partition and any(row[4].strip().endswith("*") for row in rows):
        rows = [row for row in rows if row[4].strip().endswith("*")]
    return [
        Node(name.strip(), count_gpus(gres), _number(cores), _number(memory) / 1024)
        for name, gres, cores, memory, _ in rows
    ]


def count_gpus(gres: str) -> int:
    """GPUs of a node by its generic resources: `gpu:4`, `gpu:a100:2(S:0),gpu:v100:2(S:1)`, `(null)`."""
    return sum(int(count) for count in re.findall(r"(?:^|,)\s*gpu(?::[^:,()]+)?:(\d+)", gres))


def _number(text: str) -> int:
    """`192000+` where several nodes share a row."""
    digits = re.match(r"\d+", text.strip())
    return int(digits[0]) if digits else 0
