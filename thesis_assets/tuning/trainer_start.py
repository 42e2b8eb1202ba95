"""What a run of each backend starts: settings, command and environment of its trainer.

Does not belong here: starting it (`tuning_run`), or what the program does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree
from thesis_assets.tuning.backends import BACKENDS
from thesis_assets.tuning.launch_command import launch_command, launch_environment, resolve_flags
from thesis_assets.tuning.run_flags import RunFlags
from thesis_assets.tuning.trainer_flags import TrainerFlags


@dataclass(frozen=True)
class TrainerStart:
    """A trainer that can be started.

    Attributes:
        notes: what of the run's settings has no effect here, or another one than asked for, and why.
        evaluates: whether a finished run has an evaluation of its last step.
        check: asked before anything is started: refuses what cannot be trained here, and returns further notes.
    """

    flags: RunFlags
    notes: list[str]
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    evaluates: bool = True
    check: Callable[[], list[str]] = list


def setting_names(backend: str) -> tuple[str, ...]:
    """The names that the settings of a run of this backend must have, all of them and no other."""
    if backend == "pretrained":
        from thesis_assets.tuning.pretrained import SETTINGS

        return SETTINGS
    if backend == "external":
        from thesis_assets.tuning.external.start import SETTINGS as EXTERNAL_SETTINGS

        return EXTERNAL_SETTINGS
    return tuple(TrainerFlags.__dataclass_fields__)


def trainer_start(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    *,
    n_train: int,
    lpips_weights: Path | None = None,
) -> TrainerStart:
    """The trainer of a run.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`.
        n_train: training samples of the snapshot.
        lpips_weights: the folder of the two files of LPIPS, for a loss that has it; None looks into torch's hub cache.

    Raises:
        InvalidExperiment, InvalidFile: its settings name something that is not there.
    """
    if run.backend == "pretrained":
        from thesis_assets.tuning.pretrained import pretrained_start

        return pretrained_start(tree, run_name, run, device)
    if run.backend == "external":
        from thesis_assets.tuning.external.start import external_start

        return external_start(tree, run_name, run, device, n_train)
    flags, notes = resolve_flags(tree, run_name, run, device, lpips_weights)
    backend = BACKENDS[run.backend]
    return TrainerStart(
        flags,
        notes,
        launch_command(backend, flags, device),
        launch_environment(device, run.num_processes),
        check=partial(backend.check, flags),
    )
