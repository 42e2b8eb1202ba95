"""`thesis-assets`: the commands, and how an error becomes an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check failed. Nothing asks a question when there is no terminal.
"""

import errno
import gc
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from thesis_assets.cli import (
    checkpoints,
    demo,
    doctor,
    experiments,
    recordings,
    results,
    run,
    samples,
    scenes,
    services,
    status,
)
from thesis_assets.cli.console import FAILED, WRONG_USE, progress_line
from thesis_assets.errors import ThesisAssetsError, Undeclared

INTERRUPTED = 130


class Commands(TyperGroup):
    """All commands. Typer makes an exit without a word of an interruption; here it says what became of the work."""

    def invoke(self, ctx: Any) -> Any:
        """As a group does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            progress_line("interrupted; what was finished stays, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="thesis-assets",
    cls=Commands,
    help="From scene directories to tuned DiFix checkpoints, their evaluation and their recordings.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help speaks of `[/<task>]` and `[demo]`: no markup of rich
    pretty_exceptions_enable=False,
)
app.command("doctor")(doctor.doctor)
app.command("demo-scenes")(scenes.demo_scenes)
app.command("scenes")(scenes.list_scenes_command)
app.add_typer(scenes.scene_app, name="scene", help="Import a capture as a scene; check a scene.")
app.add_typer(experiments.experiment_app, name="experiment", help="Write an experiment file from an example.")
app.command("sync")(experiments.sync)
app.command("run")(run.run)
app.command("backfill")(run.backfill)
app.command("clean")(status.clean)
app.command("status")(status.status)
app.command("freeze")(experiments.freeze_command)
app.command("fork")(experiments.fork)
app.command("set-aside")(experiments.set_aside_command)
app.command("archive")(experiments.archive_command)
app.command("demo")(demo.demo)
app.command("ui", short_help="Start the web server and the daemon on this machine.")(services.ui)
app.command("serve")(services.serve)
app.command("leaderboard")(results.leaderboard)
app.command("compare")(results.compare)
app.command("adopt")(experiments.adopt)
app.add_typer(status.checks_app, name="checks", help="The checks: made again, their page, a thorough look.")
app.add_typer(samples.samples_app, name="samples", help="Look at samples; leave some out of training and testing.")
app.add_typer(recordings.rerun_app, name="rerun", help="Recordings: write them, open them, ask all of them.")
app.command("refine")(checkpoints.refine)
app.add_typer(checkpoints.checkpoint_app, name="checkpoint", help="Verify a run's checkpoints; convert them.")
app.command("prune")(checkpoints.prune_command)
app.command("lineage")(results.lineage_command)
app.command("publish")(recordings.publish)


_ANOTHER_USER = "ask whose it is, or work in a data home of your own (THESIS_DATA_HOME)"
_OF_THE_DISK = {
    errno.EACCES: _ANOTHER_USER,
    errno.EPERM: _ANOTHER_USER,
    errno.EROFS: "it is read-only here: work in a data home of your own (THESIS_DATA_HOME)",
    errno.ENOSPC: "make room (`thesis-assets clean`, `thesis-assets prune`); the same command goes on from there",
    errno.EDQUOT: "your quota is used up; make room, and the same command goes on from there",
}
"""What the system says of a disk that no step of ours has said in its own words, with what to do."""


def main() -> None:
    """Run one command; an error of ours is a message and exit code 1, of a name that is not declared 2; never a traceback."""
    # OpenMP threads that spin at barriers make busy cores four times slower; read by torch when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A look at a large experiment makes millions of objects, and keeps them: to search them for garbage costs a third of it.
    gc.set_threshold(50_000, 20, 20)
    try:
        app()
    except ThesisAssetsError as error:
        progress_line(f"error: {error}")
        sys.exit(WRONG_USE if isinstance(error, Undeclared) else FAILED)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        progress_line(f"error: {error.strerror}: {error.filename or 'the disk'}; {_OF_THE_DISK[error.errno]}")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
