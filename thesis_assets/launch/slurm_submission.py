"""Handing payloads to Slurm by submitit: one job, or an array with a cap on how many of it run at once."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.jobs import Resources
from thesis_assets.launch.slurm_presets import Preset, Site, choose_preset
from thesis_assets.launch.slurm_queue import require_node


def submit(
    site: Site, name: str, resources: Resources, folder: Path, payloads: Sequence[Any], comment: str
) -> list[str]:
    """Submit payloads, an array where there are several. Returns Slurm's number of each: `12`, or `12_0`, `12_1`, ...

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
    executor = submitit.SlurmExecutor(folder=folder.absolute(), max_num_timeout=site.requeues)
    executor.update_parameters(comment=comment, **_parameters(site, preset, re.sub(r"[^A-Za-z0-9._-]", "_", name)))
    try:
        if len(payloads) == 1:
            return [str(executor.submit(payloads[0]).job_id)]
        with executor.batch():
            jobs = [executor.submit(payload) for payload in payloads]
    except submitit.core.utils.FailedJobError as error:
        raise ThesisAssetsError(
            "Slurm refuses the job",
            key=f"preset {preset_name}",
            found=str(error).strip()[-500:],
            remedy="set THESIS_SLURM_ACCOUNT, _PARTITION and _QOS as your cluster wants them, or change the preset by "
            "THESIS_SLURM_PRESETS",
        ) from error
    return [str(job.job_id) for job in jobs]


def require_place(site: Site, resources: Resources) -> tuple[str, Preset]:
    """The preset that a job gets, by name and value; refused where no node has what it asks for.

    Raises:
        InvalidExperiment: there is no fitting preset.
        ThesisAssetsError: no node has what the preset asks for, or Slurm or submitit is not there.
    """
    _submitit()
    name, preset = choose_preset(site.presets, resources)
    require_node(name, preset, preset.partition or site.partition)
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
            remedy="pip install 'thesis_assets[slurm]'",
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
