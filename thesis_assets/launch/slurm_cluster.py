"""A Slurm cluster: what its jobs ask for, what its own commands say, and handing payloads to it by submitit.

Works without accounting (`sacct`). Does not belong here: following a job to its end, and what runs on a node (`slurm_jobs`).
"""

from __future__ import annotations

import getpass
import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thesis_assets.errors import InvalidExperiment, ThesisAssetsError, pip_install
from thesis_assets.launch.jobs import Resources, no_bf16


class Preset(BaseModel):
    """What one job asks for, on one node. `None` leaves a word to the site's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: int = Field(ge=1)
    gpus: int = Field(ge=0)
    cores: int = Field(ge=1)
    memory_gb: float = Field(gt=0)
    min_gpus: int = Field(default=0, ge=0)
    """GPUs to ask for where the work needs fewer: some clusters refuse a job without one."""
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None

    @property
    def asked_gpus(self) -> int:
        return max(self.gpus, self.min_gpus)


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(minutes=30, gpus=1, cores=4, memory_gb=32),
    "data_gen": Preset(minutes=3 * 60, gpus=1, cores=8, memory_gb=96),
    "tune_1gpu": Preset(minutes=12 * 60, gpus=1, cores=8, memory_gb=96),
    "tune_2gpu": Preset(minutes=12 * 60, gpus=2, cores=16, memory_gb=128),
    "tune_4gpu": Preset(minutes=12 * 60, gpus=4, cores=24, memory_gb=192),
    "cpu": Preset(minutes=3 * 60, gpus=0, cores=8, memory_gb=32),
}


class Site(BaseModel):
    """A cluster as the settings describe it."""

    model_config = ConfigDict(frozen=True)

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    setup: tuple[str, ...] = ()
    """Lines of shell before the work: `module load ...`."""
    presets: Mapping[str, Preset] = PRESETS
    at_once: int = Field(default=8, ge=1)
    """Elements of one array that run at the same time."""
    signal_seconds: int = Field(default=120, ge=1)
    """Before the time limit, when a job is warned: it saves and is queued again."""
    poll_seconds: float = Field(default=10.0, gt=0)
    """Between two questions to Slurm about all jobs."""
    vanished_seconds: float = Field(default=15.0, ge=0)
    """How long a job's last file may take to become visible here after Slurm has dropped the job."""
    requeues: int = Field(default=50, ge=0)
    """How often a job that hits its time limit is queued again."""


def presets_with(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Preset]:
    """The presets, some values exchanged, and new ones.

    Raises:
        ThesisAssetsError: a value has the wrong form, or a new preset lacks one.
    """
    presets = dict(PRESETS)
    for name, values in changes.items():
        known = presets[name].model_dump() if name in presets else {}
        try:
            presets[name] = Preset.model_validate({**known, **values})
        except ValidationError as error:
            first = error.errors()[0]
            raise ThesisAssetsError(
                f"a Slurm preset is not valid: {first['msg']}",
                key=f"THESIS_SLURM_PRESETS: {name}." + ".".join(map(str, first["loc"])),
                found=repr(first.get("input"))[:200],
                wanted=", ".join(Preset.model_fields),
            ) from error
    return presets


def changed_presets(presets: Mapping[str, Preset]) -> dict[str, dict[str, Any]]:
    """What `presets_with` made them from: of each the values that it does not have by itself."""
    changed = {}
    for name, preset in presets.items():
        known = PRESETS[name].model_dump() if name in PRESETS else {}
        values = {key: value for key, value in preset.model_dump(exclude_none=True).items() if known.get(key) != value}
        if values:
            changed[name] = values
    return changed


def choose_preset(presets: Mapping[str, Preset], resources: Resources) -> tuple[str, Preset]:
    """The preset that a job names, else the one for its number of processes.

    Raises:
        InvalidExperiment: there is none of that name, or its GPUs are not the job's processes.
    """
    name = resources.preset or f"tune_{resources.processes}gpu"
    preset = presets.get(name)
    if preset is None:
        raise InvalidExperiment(
            "there is no such Slurm preset",
            key="preset" if resources.preset else "num_processes",
            found=name,
            wanted=", ".join(f"{other} ({presets[other].gpus} GPUs)" for other in presets),
            remedy="name one of them as the run's preset, or declare it in THESIS_SLURM_PRESETS",
        )
    if preset.gpus and preset.gpus != resources.processes:
        fitting = [other for other in presets if presets[other].gpus == resources.processes]
        raise InvalidExperiment(
            f"the run's processes are not the GPUs of its Slurm preset {name}: each process trains on one of its own",
            key="num_processes",
            found=resources.processes,
            wanted=preset.gpus,
            remedy=f"set num_processes: {preset.gpus}"
            + (f", or preset: {' or '.join(fitting)}" if fitting else ", or declare a preset in THESIS_SLURM_PRESETS"),
        )
    return name, preset


ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
    | {"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
"""States in which a job still waits, runs, or clears up; all others are ends."""
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
ANSWER_SECONDS = 60


_RELEASE = "it was put aside, and waits for you: `scontrol release <job>`, or terminate the run"
_NODES = "its nodes are down, drained or reserved (`sinfo -R` says why): wait, or set another partition or constraint (THESIS_SLURM_PRESETS)"
_ACCOUNT = "the account may not, or has used up what it may: `sacctmgr show assoc user=$USER`; THESIS_SLURM_ACCOUNT and _QOS name others"
MENDS = {
    "JobHeldAdmin": "the cluster's staff holds it: ask them",
    "JobHeldUser": _RELEASE,
    "held": _RELEASE,
    "DRAINED": _NODES,
    "ReqNodeNotAvail": _NODES,
    "PartitionTimeLimit": "the preset's minutes are more than the partition's: THESIS_SLURM_PRESETS",
    "Partition": "the partition takes no job now: `sinfo`; THESIS_SLURM_PARTITION names another",
    "QOSMin": "it would wait for ever, as the QOS wants more of a job than the preset asks for: see `thesis-assets doctor`",
    "Assoc": _ACCOUNT,
    "InvalidAccount": _ACCOUNT,
    "QOSNotAllowed": _ACCOUNT,
    "InvalidQOS": _ACCOUNT,
}
"""What to do of a job that will not go on by itself, by a word of Slurm's reason (https://slurm.schedmd.com/job_reason_codes.html); the
first that fits. A job that waits for its turn, or was pre-empted and is queued again, needs nothing."""


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
        why = f" ({self.reason})" if self.reason not in ("", "None") else ""
        mend = next((mend for word, mend in MENDS.items() if word in self.reason), "")
        return self.state + where + why + (f"; {mend}" if mend else "")


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
        return self._lately().get(job)

    def number_of(self, comment: str) -> str | None:
        """Slurm's number of the job with this comment, which its submitter did not live to write down; None where there is none."""
        return next((job for job, seen in self._lately().items() if seen.comment == comment), None)

    def _lately(self) -> dict[str, Seen]:
        if time.monotonic() - self._asked_at >= self._poll_seconds:
            self.refresh()
        return self._seen

    def forget(self) -> None:
        """Ask anew at the next look."""
        self._asked_at = float("-inf")

    def refresh(self) -> None:
        """Ask now. Where there is no answer, what was known stays."""
        self._asked_at = time.monotonic()
        words = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}"]
        try:
            answer = _ask([*words, "--format=%i|%T|%N|%r|%k"])
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
        _cancel(left)
        deadline = time.monotonic() + wait_seconds
        while True:
            self.refresh()
            left = [job for job in left if (seen := self._seen.get(job)) is not None and seen.is_alive]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.5)


def _ask(words: Sequence[str]) -> str:
    """What one of Slurm's commands answers; an error where it is not installed, fails, or does not answer."""
    result = _run(words)
    if result.returncode != 0:
        found = f"{words[0]}: {result.stderr.strip()[-500:]}"
        raise ThesisAssetsError("Slurm does not answer", found=found, remedy=_LOOK)
    return result.stdout


_LOOK = "look whether this machine belongs to the cluster (`sinfo`); THESIS_LAUNCHER=local works without one"


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """One of Slurm's commands, whatever its status; an error where it is not installed, or does not answer."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except FileNotFoundError as error:
        raise ThesisAssetsError(
            "Slurm's commands are not installed here", file=words[0], found="no such program", remedy=_LOOK
        ) from error
    except subprocess.TimeoutExpired as error:
        found = f"{words[0]}: no answer in {ANSWER_SECONDS} s"
        raise ThesisAssetsError("Slurm does not answer", found=found, remedy=_LOOK) from error


VOLTA = re.compile(r"(?<![a-z0-9])(volta|g?v100s?|titan_?v|sm_?70)(?![a-z0-9])", re.IGNORECASE)
"""How sites write it into the type of a GPU (`gpu:v100:2`, `gpu:tesla_v100-sxm2:2`) or a feature of a node."""


@dataclass(frozen=True)
class Node:
    """What one node of a partition has. `memory_gb`: as jobs may ask for it; `features`: as its site names them."""

    gpus: int
    cores: int
    memory_gb: float
    gpu_words: str = ""
    features: frozenset[str] = frozenset()

    @property
    def volta(self) -> str:
        """The word that says its GPUs are of the Volta generation; empty where none does."""
        words = [self.gpu_words, *sorted(self.features)]
        return next((found[0] for word in words if (found := VOLTA.search(word))), "")

    def holds(self, preset: Preset) -> bool:
        """Whether a job of the preset fits on it."""
        return self.gpus >= preset.asked_gpus and self.cores >= preset.cores and self.memory_gb >= preset.memory_gb


def _meets(constraint: str, features: frozenset[str]) -> bool:
    """Whether a node has what `--constraint` asks for, of the forms `a`, `a&b` and `a|b`; any other is left to Slurm."""
    if re.search(r"[^\w&|,.+-]", constraint):
        return True
    return any(all(word in features for word in re.split("[&,]", each) if word) for each in constraint.split("|"))


def _refuse_volta(preset_name: str, presets: Mapping[str, Preset], nodes: Sequence[Node], place: str) -> None:
    """Refuse a training in bf16 where it may come to a GPU that only emulates it."""
    volta = next((node.volta for node in nodes if node.volta), None)
    if volta is None:
        return
    shared = {"(null)"}.union(*(node.features for node in nodes if node.volta))
    others = sorted({word for node in nodes if not node.volta for word in node.features} - shared)
    kept = presets[preset_name].model_copy(update={"constraint": "|".join(others)})
    constrained = f"THESIS_SLURM_PRESETS='{json.dumps(changed_presets({**presets, preset_name: kept}))}'"
    raise no_bf16(
        f"nodes with {volta} ({place})", f"; or keep it to the other nodes there: {constrained}" if others else ""
    )


def _require_node(site: Site, preset_name: str, resources: Resources) -> None:
    """Refuse what no node of the partition has, before anything is submitted."""
    preset = site.presets[preset_name]
    partition = preset.partition or site.partition
    nodes, place = _list_nodes(partition), f"partition {partition}" if partition else "the default partition"
    gpus, cores, memory_gb = preset.asked_gpus, preset.cores, preset.memory_gb
    if fitting := [node for node in nodes if node.holds(preset)]:
        if resources.bf16:
            allowed = [node for node in fitting if _meets(preset.constraint or "", node.features)]
            _refuse_volta(preset_name, site.presets, allowed, place)
        return
    if not nodes:
        raise ThesisAssetsError(
            "Slurm has no node there", key="THESIS_SLURM_PARTITION", found=place, remedy="`sinfo` lists the partitions"
        )
    most = max(node.gpus for node in nodes)
    if gpus > most:
        raise ThesisAssetsError(
            "the job wants more GPUs than any node has, and a job runs on one node",
            key=f"preset {preset_name}",
            found=f"{gpus} GPUs",
            wanted=f"at most {most} ({place})",
            remedy="lower num_processes, choose a smaller preset, or another THESIS_SLURM_PARTITION",
        )
    shown = ", ".join(sorted({f"{node.gpus} GPUs, {node.cores} cores, {node.memory_gb:.0f} GB" for node in nodes})[:5])
    raise ThesisAssetsError(
        "the job wants more than any node has",
        key=f"preset {preset_name}",
        found=f"{gpus} GPUs, {cores} cores, {memory_gb:g} GB",
        wanted=f"what one node has: {shown} ({place})",
        remedy=f"change the preset {preset_name} by THESIS_SLURM_PRESETS (docs/slurm.md)",
    )


def _list_nodes(partition: str | None) -> list[Node]:
    """The nodes of a partition, of the default one where none is named."""
    chosen = [f"--partition={partition}"] if partition else []
    rows = [
        line.split("|")
        for line in _ask(["sinfo", "--noheader", "--Node", *chosen, "--format=%N|%G|%c|%m|%P|%f"]).splitlines()
        if line.count("|") == 5
    ]
    if not partition and any(row[4].strip().endswith("*") for row in rows):
        rows = [row for row in rows if row[4].strip().endswith("*")]
    return [
        Node(count_gpus(gres), _number(cores), _number(memory) / 1024, gres, frozenset(features.strip().split(",")))
        for _, gres, cores, memory, _, features in rows
    ]


MOST_MIN_GPUS = 4
"""GPUs that a cluster is asked with, where it takes no job without one."""


@dataclass(frozen=True)
class Submission:
    """What a cluster answers when it is asked, without a job, whether it would take one of a preset.

    Attributes:
        min_gpus: the fewest GPUs it takes the job with; None where it takes it with none of those that were tried.
        said: to the job as the preset stands; empty where it takes that.
    """

    min_gpus: int | None
    said: str


def ask_submission(site: Site, preset: Preset) -> Submission:
    """Ask `sbatch --test-only`, which needs no accounting; and the rules of the QOS, for which a job would wait for ever.

    Raises:
        ThesisAssetsError: Slurm is not there, or does not answer.
    """
    said = _refusal(site, preset, preset.asked_gpus)
    if not said:
        least, qos = _gpus_of_qos(site, preset)
        waits = least > preset.asked_gpus
        return Submission(max(least, preset.asked_gpus), f"a job waits for ever: QOSMinGRES of {qos}" if waits else "")
    counts = range(preset.asked_gpus + 1, MOST_MIN_GPUS + 1)
    return Submission(next((gpus for gpus in counts if not _refusal(site, preset, gpus)), None), said)


def _refusal(site: Site, preset: Preset, gpus: int) -> str:
    """What `sbatch` says to a job of the preset with so many GPUs; empty where it would take it."""
    named = {
        "partition": preset.partition or site.partition,
        "account": preset.account or site.account,
        "qos": preset.qos or site.qos,
        "constraint": preset.constraint,
        "time": preset.minutes,
        "cpus-per-task": preset.cores,
        "mem": f"{round(preset.memory_gb * 1024)}M",
        "gpus-per-node": gpus or None,
    }
    words = [f"--{name}={value}" for name, value in named.items() if value is not None]
    result = _run(["sbatch", "--test-only", *words, "--wrap=true"])
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in result.stderr.strip().splitlines()]
    return "" if result.returncode == 0 else "; ".join(lines) or f"status {result.returncode}"


def _gpus_of_qos(site: Site, preset: Preset) -> tuple[int, str]:
    """The most GPUs that a QOS of such a job wants at least, and its name; 0 where there is no accounting."""
    show = ["sacctmgr", "--noheader", "--parsable2", "show"]
    try:
        wanted = min_gpus_of_qos(_ask([*show, "qos", "format=name,mintres"]))
        own = preset.qos or site.qos or _ask([*show, "assoc", f"user={getpass.getuser()}", "format=defaultqos"])
        partition = preset.partition or site.partition
        of_partition = _ask(["scontrol", "show", "partition", partition]) if partition else ""
    except ThesisAssetsError:
        return 0, ""
    names = {*own.split(), *re.findall(r"\bQoS=(\S+)", of_partition)}
    return max(((gpus, name) for name, gpus in wanted.items() if name in names), default=(0, ""))


def min_gpus_of_qos(rows: str) -> dict[str, int]:
    """GPUs that each QOS wants of a job at least, by rows such as `normal|cpu=1,gres/gpu=1`; those that want none are left out."""
    found = {}
    for name, _, minimum in (row.partition("|") for row in rows.splitlines()):
        counts = [int(count) for count in re.findall(r"gres/gpu(?::[^=,]+)?=(\d+)", minimum)]
        if any(counts):
            found[name] = max(counts)
    return found


def count_gpus(gres: str) -> int:
    """GPUs of a node by its generic resources: `gpu:4`, `gpu:a100:2(S:0),gpu:v100:2(S:1)`, `(null)`."""
    return sum(int(count) for count in re.findall(r"(?:^|,)\s*gpu(?::[^:,()]+)?:(\d+)", gres))


def _number(text: str) -> int:
    """`192000+` where several nodes share a row."""
    digits = re.match(r"\d+", text.strip())
    return int(digits[0]) if digits else 0


def submit(
    site: Site, name: str, resources: Resources, folder: Path, payloads: Sequence[Any], comment: str
) -> list[str]:
    """Submit payloads, an array where there are several, or as many arrays as the cluster's `MaxArraySize` makes of them. Returns Slurm's
    number of each: `12`, or `12_0`, `12_1`, ...

    Args:
        comment: kept by Slurm with the job, to find it again.
        folder: on the file system that the nodes share: scripts, pickles, and the logs that `log_files` names.

    Raises:
        InvalidExperiment: there is no fitting preset.
        ThesisAssetsError: no node has what the preset asks for, Slurm refuses it, or Slurm or submitit is not there.
    """
    preset_name, preset = require_place(site, resources)
    submitit = _submitit()
    folder.mkdir(parents=True, exist_ok=True)
    most = max_array_size() if len(payloads) > 1 else 1
    parts = [payloads[start : start + most] for start in range(0, len(payloads), most)]
    # Arrays beside each other share what may run at once.
    site = site.model_copy(update={"at_once": max(1, site.at_once // len(parts))})
    executor = submitit.SlurmExecutor(folder=folder.absolute(), max_num_timeout=site.requeues)
    executor.update_parameters(comment=comment, **_parameters(site, preset, re.sub(r"[^A-Za-z0-9._-]", "_", name)))
    jobs: list[Any] = []
    try:
        for part in parts:
            if len(part) == 1:
                jobs.append(executor.submit(part[0]))
                continue
            with executor.batch():
                of_part = [executor.submit(payload) for payload in part]
            jobs += of_part
    except submitit.core.utils.FailedJobError as error:
        _cancel([str(job.job_id) for job in jobs])  # or those would run, and nobody follow them
        raise ThesisAssetsError(
            "Slurm refuses the job",
            key=f"preset {preset_name}",
            found=str(error).strip()[-500:],
            remedy="set THESIS_SLURM_ACCOUNT, _PARTITION and _QOS as your cluster wants them, or change the preset by "
            "THESIS_SLURM_PRESETS",
        ) from error
    return [str(job.job_id) for job in jobs]


def max_array_size() -> int:
    """How many elements an array of this cluster may have: the largest index is one below `MaxArraySize`."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask(["scontrol", "show", "config"]), re.MULTILINE)
    return max(1, int(found[1])) if found is not None else 1001  # Slurm's own default


def _cancel(jobs: Sequence[str]) -> None:
    if jobs:
        subprocess.run(["scancel", "--quiet", *jobs], capture_output=True, timeout=ANSWER_SECONDS, check=False)


def require_place(site: Site, resources: Resources) -> tuple[str, Preset]:
    """The preset that a job gets, by name and value; refused where no node has what it asks for.

    Raises:
        InvalidExperiment: there is no fitting preset, or it trains in bf16 and may come to a node whose GPUs lack it.
        ThesisAssetsError: no node has what the preset asks for, or Slurm or submitit is not there.
    """
    _submitit()
    name, preset = choose_preset(site.presets, resources)
    _require_node(site, name, resources)
    if resources.minutes is not None:
        preset = preset.model_copy(update={"minutes": min(resources.minutes, preset.minutes)})
    return name, preset


def log_files(folder: Path, number: str) -> tuple[Path, Path]:
    """Where stdout and stderr of a submitted payload go."""
    return folder / f"{number}_0_log.out", folder / f"{number}_0_log.err"


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ThesisAssetsError(
            "the launcher slurm needs the package submitit",
            key="THESIS_LAUNCHER",
            found="slurm",
            remedy=pip_install("'thesis-assets[slurm]'"),
        ) from error
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ThesisAssetsError(
            "Slurm's commands are not installed here",
            key="THESIS_LAUNCHER",
            found="no sbatch",
            remedy="start this on a machine that may submit jobs, or set THESIS_LAUNCHER=local",
        )
    return submitit


def _parameters(site: Site, preset: Preset, name: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "job_name": name,
        "time": preset.minutes,
        "cpus_per_task": preset.cores,
        "mem": f"{round(preset.memory_gb * 1024)}MB",
        "partition": preset.partition or site.partition,
        "account": preset.account or site.account,
        "qos": preset.qos or site.qos,
        "constraint": preset.constraint,
        "setup": list(site.setup) or None,
        "signal_delay_s": site.signal_seconds,
        "array_parallelism": site.at_once,
        "wckey": None,
        # A node that dies must not take the job with it, whatever the site's default is.
        "additional_parameters": {"requeue": True},
        # Since 22.05 a step does not have the job's cores unless it asks again.
        "srun_args": [f"--cpus-per-task={preset.cores}"],
    }
    if preset.asked_gpus:
        parameters["gpus_per_node"] = preset.asked_gpus
    return {key: value for key, value in parameters.items() if value is not None or key == "wckey"}
