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
from thesis_assets.cli.doctor_machine import absent_parts
from thesis_assets.defs.checks.outcomes import ABSENCES
from thesis_assets.defs.daemons import daemon_runs
from thesis_assets.defs.dead_runs import close_dead_runs
from thesis_assets.defs.failures import tell_of_failure
from thesis_assets.defs.jobs import LEVELS, Level
from thesis_assets.defs.levels import Outcome, Work, cells_of_level, execute, levels_until, plan_level
from thesis_assets.defs.older_trees import take_over_experiment
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.ready_scenes import unfinished_scenes
from thesis_assets.defs.registration import plan_registration, register
from thesis_assets.defs.report_pages import CHECK_REPORT, renew_pages
from thesis_assets.errors import InvalidScene, ThesisAssetsError, near_names


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
        InvalidExperiment: its patterns match no scene.
        InvalidScene: a scene that is to be exported is not complete, and not named.
    """
    from thesis_assets.launch.telling import tell, told_to
    from thesis_assets.tuning.selection_record import renew_places

    began = time.perf_counter()
    report = RunReport(exp_name)
    levels = levels_until(until)
    spec = platform.experiments.read(exp_name)
    platform.refuse_no_match(spec, evaluated="tune" in {level.job for level in levels} and until != "tuned_checkpoint")
    for line in platform.idle_globs(spec):
        platform.echo(f"warning: {exp_name}: {line}")

    with told_to(lambda line: platform.echo(f"  {line}")):
        take_over_experiment(platform, exp_name, tell)
        renew_places(platform.difix(Cell(exp_name)))
    try:
        _run_levels(platform, instance, report, levels, runs=runs, scenes=scenes, until=until, replace=replace)
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
    levels: Sequence[Level],
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
    for level in levels:
        cells = cells_of_level(platform, level, exp_name, runs, scenes)
        works = plan_level(platform, instance, level, cells, until)
        if level.job == "report" and report.outcomes:
            works = [_with_check_page(level, works)]
        if not works:
            if cells:
                platform.echo(f"{exp_name}: {level.title}{told_cells(cells)}: current")
            continue
        if level.job == "export_scenes":
            _refuse_unfinished(platform, exp_name, works, scenes)
        for work in works:
            platform.echo(begun_line(exp_name, work))
            step_began = time.perf_counter()
            outcome = execute(definitions, instance, work, replace=replace)
            report.outcomes.append(outcome)
            for line in ended_lines(exp_name, outcome, time.perf_counter() - step_began):
                platform.echo(line)
            if not outcome.success:
                tell_where_no_daemon_does(platform, instance, outcome)
        if report.exit_code != DONE:
            break


def begun_line(exp_name: str, work: Work) -> str:
    """What is being made, as the step's first detail: its last line takes its place."""
    return f"  {exp_name}: {work.level.title}{told_cells(work.cells)} ..."


def ended_lines(exp_name: str, outcome: Outcome, seconds: float) -> list[str]:
    """What failed or is to be looked at, a line each, and one line for the whole: what was made, how long, its checks."""
    warnings = [line for line in outcome.warnings if line.partition(":")[0].partition(".")[2] not in ABSENCES]
    passed = outcome.n_checks - len(outcome.failed_checks) - len(outcome.warnings)
    told = {
        "checks passed": passed,
        "warning" if len(warnings) == 1 else "warnings": len(warnings),
        "failed": len(outcome.failed_checks),
    }
    word = ", ".join(f"{count} {what}" for what, count in told.items() if count)
    word = word if outcome.success or outcome.failed_checks else "failed"
    whole = f"{exp_name}: {outcome.work.level.title}{told_cells(outcome.work.cells)}: {seconds:.0f} s"
    return [
        *(f"FAILED {reason}" for reason in [*outcome.failed_checks, *outcome.errors]),
        *(f"warning {line}" for line in warnings),
        whole + (f"; {word}" if word else ""),
    ]


def told_cells(cells: Sequence[Cell]) -> str:
    """` (tiny_a)`, ` (6 scenes)`; nothing where the experiment is the cell."""
    names = [cell.run_name or cell.scene_name for cell in cells if cell.run_name or cell.scene_name]
    kind = "scenes" if any(cell.scene_name for cell in cells) else "runs"
    return f" ({names[0]})" if len(names) == 1 else f" ({len(names)} {kind})" if names else ""


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
    until: Annotated[str | None, typer.Option("--until", help="Stop after this asset, such as `difix_data`.")] = None,
    scenes: Annotated[
        list[str] | None, typer.Option("--scenes", help="Only these scenes' shards (repeatable).")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Write a run derived from another into the file, and run it: runs.<run>.<key>=<value>."
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Export the scenes anew where the file's `generation` is not that of the samples. Not of frozen data.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make what one experiment declares and is not current.

    The cells are made in the graph's order, in this process; no daemon is needed. Stops at a failed run, or at a failed blocking
    check (exit code 3). Interrupted, the same command goes on where it was.
    """
    platform = load_platform()
    names = list(run_names or [])
    try:
        levels_until(until)
    except KeyError as error:
        near = near_names([asset for level in LEVELS for asset in level.assets], [str(until)])
        progress_line(f"error: there is no asset {error} ({near}); `thesis-assets status` lists them")
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
        _say_what_next(platform, report)
    if report.exit_code != DONE:
        raise typer.Exit(report.exit_code)


def _declare_derived_runs(platform: Platform, exp_name: str, changes: Sequence[str]) -> list[str]:
    from thesis_assets.experiments.derive import declare_derived_runs

    declared = declare_derived_runs(platform.experiments.path(exp_name), changes)
    for name in declared:
        progress_line(f"{exp_name}: run {name} is declared in {platform.experiments.path(exp_name)}")
    return declared


def _say_what_next(platform: Platform, report: RunReport) -> None:
    made = sum(outcome.success for outcome in report.outcomes)
    checks = sum(outcome.n_checks for outcome in report.outcomes)
    if {"nvs", "evaluation_recordings"} & {asset for outcome in report.outcomes for asset in outcome.work.assets}:
        for part in absent_parts(platform.settings):
            print(f"absent: {part.what} ({part.found}): {part.fix}")
    if report.exit_code == DONE:
        print(
            f"{report.exp_name}: {made} runs of the graph, {checks} checks, {report.seconds:.0f} s; all that was asked for is current"
        )
        print("next: `thesis-assets status`, `thesis-assets leaderboard`, `thesis-assets ui`")
    else:
        print(f"{report.exp_name}: stopped; mend what is named above, then give the same command again")


def freeze_command(
    exp: Annotated[str, typer.Option("--exp", help="The experiment whose snapshot is to stay as it is.")],
    as_json: JsonOption = False,
) -> None:
    """Let nothing change an experiment's data any more.

    Its samples, manifests and data.json stay as they are, so that every run is made from the same. The first tuning run does it too.
    """
    from thesis_assets.splits.freeze import freeze

    platform = load_platform()
    platform.experiments.read(exp)
    snapshot = freeze(platform.difix(Cell(exp)), reason="frozen by command")
    if as_json:
        print_json(snapshot.model_dump(mode="json"))
    else:
        print(f"{exp} is frozen: {snapshot.n_train} train and {snapshot.n_test} test samples")
