"""Where a step's work runs, by the settings; and what a step does with its jobs when it is told to end."""

from collections.abc import Callable

import dagster as dg

from thesis_assets.defs.dead_runs import PROCESS_TAG
from thesis_assets.errors import NotBuiltYet
from thesis_assets.launch.jobs import Following, Launcher
from thesis_assets.settings import Settings


def launcher_of(settings: Settings, device: str) -> Launcher:
    """The launcher that the settings name. `device`: of its jobs, as `Platform.device`."""
    from thesis_assets.launch.device_locks import visible_gpus
    from thesis_assets.launch.local_jobs import LocalLauncher

    if settings.launcher != "local":
        raise NotBuiltYet(
            "this version runs its work on this machine only",
            key="THESIS_LAUNCHER",
            found=settings.launcher,
            wanted="local",
            remedy="set THESIS_LAUNCHER=local, or start the whole command inside a job of your cluster",
        )
    return LocalLauncher(lambda: visible_gpus(device))


def following(context: dg.AssetExecutionContext, report: Callable[[str], None]) -> Following:
    """How a step follows its jobs: their logs are the run's compute logs; a user's terminate ends them, a restart leaves them."""

    def leave_running() -> bool:
        run = context.instance.get_run_by_id(context.run_id)
        # A run of the command line is interrupted by the person in front of it. Of the others, one that a person terminates is
        # `CANCELING` before its process hears of it; web server and daemon end theirs without a word when they are restarted.
        by_command_line = run is not None and PROCESS_TAG in run.tags
        canceling = run is not None and run.status == dg.DagsterRunStatus.CANCELING
        return not by_command_line and not canceling

    return Following(leave_running=leave_running, on_wait=report, show_logs=True)
