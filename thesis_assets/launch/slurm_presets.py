"""What jobs of a cluster ask for: the presets, what a site adds to them, and which preset a job gets.

Does not belong here: talking to Slurm (`slurm_queue`, `slurm_jobs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thesis_assets.errors import InvalidExperiment, ThesisAssetsError
from thesis_assets.launch.jobs import Resources


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
