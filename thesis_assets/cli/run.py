"""`thesis-assets run`: materialize an experiment's declared cells in order, in this process; no daemon needed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import dagster as dg
import typer

from thesis_assets.cli.console import (
    CHECK_FAILED,
    DONE,
    FAILED,
    WRONG_USE,
    JsonOption,
    dagster_instance,
    load_platform,
    print_json,
    progress_line,
)
from thesis_assets.defs.daemons import daemon_runs
from thesis_assets.defs.dead_runs import close_dead_runs
from thesis_assets.defs.failures import tell_of_failure
from thesis_assets.defs.jobs import Level
from thesis_assets.defs.levels import Outcome, Work, cells_of_level, execute, levels_until, plan_level
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.ready_scenes import unfinished_scenes
from thesis_assets.defs.registration import plan_registration, register
from thesis_assets.defs.report_pages import CHECK_REPORT, renew_pages
from thesis_assets.errors import InvalidScene, ThesisAssetsError


@dataclass
class RunReport:
    """What one `run` did: every run of a level, in order."""

    exp_name: str
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        if any(outcome.failed_checks for outcome in self.outcomes):
            return CHECK_FAILED
        return DONE if all(outcome.success for outcome in self.outcomes) else FAILED

    def to_json(self) -> dict[str, object]:
        return {
            "exp_name": self.exp_name,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 1),
            "runs": [
                {
                    "job": outcome.work.level.job,
                    "assets": outcome.work.assets,
                    "cells": [str(cell) for cell in outcome.work.cells],
                    "run_id": outcome.run_id,
                    "success": outcome.success,
                    "checks": outcome.n_checks,
                    "failed_checks": outcome.failed_checks,
                    "errors": outcome.errors,
                }
                for outcome in self.outcomes
            ],
        }


def run_experiment(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    *,
    runs: Sequence[str] = (),
    scenes: Sequence[str] = (),
    until: str | None = None,
    replace: bool = False,
) -> RunReport:
    """Run level after level; stop at the first that fails. What is current is not made again.

    Raises:
        InvalidScene: a scene that is to be exported is not complete, and not named.
    """
    began = time.perf_counter()
    report = RunReport(exp_name)
    try:
        _run_levels(platform, instance, report, runs=runs, scenes=scenes, until=until, replace=replace)
    finally:
        # Whatever ended it, what its checks found stands on the page; the last level writes it by itself.
        if report.outcomes and not (report.outcomes[-1].success and report.outcomes[-1].work.level.job == "report"):
            renew_pages(platform, instance)
    report.seconds = time.perf_counter() - began
    return report


def _run_levels(
    platform: Platform,
    instance: dg.DagsterInstance,
    report: RunReport,
    *,
    runs: Sequence[str],
    scenes: Sequence[str],
    until: str | None,
    replace: bool,
) -> None:
    from thesis_assets.definitions import build_defs

    exp_name = report.exp_name
    for run_id in close_dead_runs(instance):
        platform.echo(f"run {run_id[:8]} was killed before it ended; it is closed, and its work goes on here")
    platform.refuse_undeclared([Cell(exp_name, run_name=run) for run in runs])
    platform.refuse_undeclared([Cell(exp_name, scene_name=scene) for scene in scenes])
    definitions = build_defs(settings=platform.settings, echo=platform.echo)
    for level in levels_until(until):
        cells = cells_of_level(platform, level, exp_name, runs, scenes)
        works = plan_level(platform, instance, level, cells, until)
        if level.job == "report" and report.outcomes:
            works = [_with_check_page(level, works)]
        if not works:
            if cells:
                platform.echo(
                    f"{exp_name}: {level.title}: current ({len(cells)} {'cell' if len(cells) == 1 else 'cells'})"
                )
            continue
        if level.job == "export_scenes":
            _refuse_unfinished(platform, exp_name, works, scenes)
        for work in works:
            names = ", ".join(str(cell) for cell in work.cells)
            platform.echo(f"{exp_name}: {level.title}: {', '.join(work.assets)} for {names}")
            outcome = execute(definitions, instance, work, replace=replace)
            report.outcomes.append(outcome)
            if not outcome.success:
                for reason in [*outcome.failed_checks, *outcome.errors]:
                    platform.echo(f"FAILED {reason}")
                tell_where_no_daemon_does(platform, instance, outcome)
        if report.exit_code != DONE:
            break


def _refuse_unfinished(platform: Platform, exp_name: str, works: Sequence[Work], named: Sequence[str]) -> None:
    """Export no scene that is still being copied, unless it is named: a training would freeze what is there of it.

    Raises:
        InvalidScene: with what the scenes lack.
    """
    asked = {cell.scene_name for work in works for cell in work.cells} - {*named}
    unfinished = unfinished_scenes(platform, platform.experiments.read(exp_name), sorted(asked))
    if unfinished:
        first = next(iter(unfinished))
        raise InvalidScene(
            "scenes of the experiment are not complete: are they still being copied?",
            file=platform.roots.tree(first).ground_truth.base,
            key="generation.scenes",
            found="; ".join(f"{name}: {why}" for name, why in unfinished.items()),
            remedy=f"wait for them, and give the same command again; or take them as they are, once: `thesis-assets run --exp "
            f"{exp_name} --until scene_samples {' '.join(f'--scenes {name}' for name in unfinished)}`; or leave them out of "
            "generation.scenes. A scene whose misc/preprocess_info.txt says `status: success` is complete",
        )


def tell_where_no_daemon_does(platform: Platform, instance: dg.DagsterInstance, outcome: Outcome) -> None:
    """Tell the failure command or mailbox of the settings; a daemon's sensor does it for every run, this one included."""
    run = instance.get_run_by_id(outcome.run_id)
    if run is None or daemon_runs(instance):
        return
    try:
        tell_of_failure(platform.settings, instance, run, "\n".join([*outcome.failed_checks, *outcome.errors]))
    except ThesisAssetsError as error:
        platform.echo(f"nobody could be told: {error}")


def _with_check_page(level: Level, works: Sequence[Work]) -> Work:
    """The reports that are to be made, and always the check page: it follows the event log, which has grown."""
    planned = {asset for work in works for asset in work.assets}
    return Work(level, tuple(asset for asset in level.assets if asset in planned or asset == CHECK_REPORT), (Cell(),))


def run(
    exp: Annotated[str, typer.Option("--exp", help="The experiment: the name of its file.")],
    run_names: Annotated[list[str] | None, typer.Option("--run", help="Only these runs (repeatable).")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Stop after this asset.")] = None,
    scenes: Annotated[
        list[str] | None, typer.Option("--scenes", help="Only these scenes' shards (repeatable).")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="runs.<run>.<key>=<value>: declare a derived run, then run it.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Export anew where the samples were made by another generation section.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Materialize the declared cells of one experiment that are not current, in order, in this process.

    Stops at a failed run or a failed blocking check (exit code 3). Interrupted, the same command goes on where it was.
    """
    platform = load_platform()
    names = list(run_names or [])
    try:
        levels_until(until)
    except KeyError as error:
        progress_line(f"error: there is no asset {error}; `thesis-assets status` lists them")
        raise typer.Exit(WRONG_USE) from error
    if changes:
        names += _declare_derived_runs(platform, exp, changes)
    with dagster_instance(platform.settings) as instance:
        register(instance, plan_registration(platform, instance))
        try:
            report = run_experiment(
                platform, instance, exp, runs=names, scenes=scenes or (), until=until, replace=replace
            )
        except dg.Failure as error:
            progress_line(f"error: {error.description}")
            raise typer.Exit(WRONG_USE) from error
    if as_json:
        print_json(report.to_json())
    else:
        _say_what_next(report)
    if report.exit_code != DONE:
        raise typer.Exit(report.exit_code)


def _declare_derived_runs(platform: Platform, exp_name: str, changes: Sequence[str]) -> list[str]:
    from thesis_assets.experiments.derive import declare_derived_runs

    declared = declare_derived_runs(platform.experiments.path(exp_name), changes)
    for name in declared:
        progress_line(f"{exp_name}: run {name} is declared in {platform.experiments.path(exp_name)}")
    return declared


def _say_what_next(report: RunReport) -> None:
    made = sum(outcome.success for outcome in report.outcomes)
    checks = sum(outcome.n_checks for outcome in report.outcomes)
    if report.exit_code == DONE:
        print(
            f"{report.exp_name}: {made} runs made, {checks} checks, {report.seconds:.0f} s; everything asked for is current"
        )
        print("next: `thesis-assets status`, `thesis-assets leaderboard`, `make ui`")
    else:
        print(f"{report.exp_name}: stopped; mend what is named above, then give the same command again")


def freeze_command(
    exp: Annotated[str, typer.Option("--exp", help="The experiment whose snapshot is to stay as it is.")],
    as_json: JsonOption = False,
) -> None:
    """Freeze a data snapshot: from now on nothing may change its samples, manifests or data.json."""
    from thesis_assets.splits.freeze import freeze

    platform = load_platform()
    platform.experiments.read(exp)
    snapshot = freeze(platform.difix(Cell(exp)), reason="frozen by command")
    if as_json:
        print_json(snapshot.model_dump(mode="json"))
    else:
        print(f"{exp} is frozen: {snapshot.n_train} train and {snapshot.n_test} test samples")
