"""`thesis-assets run` and `backfill`: make the cells that an experiment declares, in the graph's order; a daemon is not needed."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import dagster as dg
import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import (
    CHECK_FAILED,
    DONE,
    FAILED,
    dagster_instance,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
    wrong_use,
)
from thesis_assets.cli.doctor import absent_parts
from thesis_assets.errors import InvalidScene, ThesisAssetsError, first_names, near_names
from thesis_assets.experiments.sweeps import written
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.checks import ABSENCES
from thesis_assets.graph.nodes import GPU_ASSETS, LEVELS, NODES, Level, commanded
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes, unfinished_scenes
from thesis_assets.graph.states import LEVEL_OF, CellState, Pair, Plan, assets_until, cells_of_level
from thesis_assets.operations.adopted_trees import take_over_experiment
from thesis_assets.operations.backfill_plan import BackfillPlan, Mode, PlannedCell, by_asset, plan_backfill
from thesis_assets.operations.cost_estimates import PastWork, estimate_lines, known_by
from thesis_assets.operations.execution import (
    RunOutcome,
    Work,
    check_again,
    daemon_runs,
    hand_over,
    levels_until,
    make_run,
    run_here,
    run_of,
    run_outcome,
    works_of,
)
from thesis_assets.operations.failures import tell_of_failure
from thesis_assets.operations.lost_runs import close_dead_runs
from thesis_assets.operations.probing import probe_first
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.operations.report_pages import CHECK_REPORT, renew_pages
from thesis_assets.operations.trainings import side_by_side
from thesis_assets.provenance import ask_anew


@dataclass
class RunReport:
    """What one `run` did: every run of a level, in order; and the cells that it could not make, where it stopped."""

    exp_name: str
    outcomes: list[RunOutcome] = field(default_factory=list)
    stopped: list[CellState] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        code = _exit_code(self.outcomes)
        return FAILED if code == DONE and self.stopped else code

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
            "stopped": [state.row for state in self.stopped],
        }


def _exit_code(outcomes: Sequence[RunOutcome]) -> int:
    if any(outcome.failed_checks for outcome in outcomes):
        return CHECK_FAILED
    return DONE if all(outcome.success for outcome in outcomes) else FAILED


def run_experiment(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    *,
    runs: Sequence[str] = (),
    scenes: Sequence[str] = (),
    until: str | None = None,
    force: Collection[str] = (),
    probe: bool | None = None,
) -> RunReport:
    """Run level after level; stop at the first that fails. Of several runs one that fails stands still, and the others go on. What is
    made is not made again, and what a plain run cannot make (`RunReport.stopped`) stands still with all that waits for it, and nothing else.

    Args:
        force: assets whose cells are made anew; of `runs` and `scenes`, where any are named.
        probe: on a cluster, whether a probe job is made first; None: where there is much to do and no past work to go by.

    Raises:
        InvalidExperiment: its patterns match no scene, or a run trains in bf16 where the GPUs have none.
        InvalidScene: a scene that is to be exported is not complete, and not named.
    """
    from thesis_assets.definitions import build_defs
    from thesis_assets.launch.telling import tell, told_to
    from thesis_assets.tuning.selection import renew_places

    began = time.perf_counter()
    report = RunReport(exp_name)
    levels = levels_until(until)
    spec = platform.experiments.read(exp_name)
    platform.refuse_no_match(spec, evaluated="tune" in {level.job for level in levels} and until != "tuned_checkpoint")
    for line in platform.idle_globs(spec):
        platform.echo(f"warning: {exp_name}: {line}")

    with told_to(lambda line: platform.echo(f"  {line}")):
        take_over_experiment(platform, exp_name, tell)
    with told_to(platform.echo):
        renew_places(platform.difix(Cell(exp_name)))
    try:
        for run_id in close_dead_runs(instance):
            platform.echo(f"run {run_id[:8]} was killed before it ended; it is closed, and its work goes on here")
        platform.refuse_undeclared([Cell(exp_name, run_name=run) for run in runs])
        platform.refuse_undeclared([Cell(exp_name, scene_name=scene) for scene in scenes])
        maker = _Maker(
            platform, instance, build_defs(settings=platform.settings, echo=platform.echo), exp_name, report.outcomes
        )
        plan = Plan(platform, instance)
        if LEVEL_OF["tuned_checkpoint"] in levels:
            plan.refuse_no_place(exp_name, runs, force)
        states = _open_states(plan, exp_name, runs, scenes, until, force)
        _say_cost(platform, instance, exp_name, states, asked=probe)
        going = list(runs or spec.runs)
        for level in levels:
            cells = cells_of_level(platform, level, exp_name, going, scenes)
            again = list(_to_check_again(plan, level, cells, until))
            for asset, cell in again:
                maker.check_again(level, asset, cell, plan.failed_checks(asset, cell))
            plan = Plan(platform, instance) if again else plan
            works, stopped = _asked(plan, instance, level, cells, until, force, scenes)
            to_train = [cell for work in works if "tuned_checkpoint" in work.assets for cell in work.cells]
            for line in _training_lines(platform, exp_name, to_train):
                platform.echo(line)
            if level.job == "report" and report.outcomes:
                # Always the check page, too: it follows the event log, which has grown.
                planned = {asset for work in works for asset in work.assets} | {CHECK_REPORT}
                works = [Work(level, tuple(asset for asset in level.assets if asset in planned), (Cell(),))]
            with side_by_side(platform, works if "tuned_checkpoint" not in force else ()) as submit_next:
                for work in works:
                    anew, started = maker.begin(work, force), time.perf_counter()
                    submit_next(work)
                    result = make_run(instance, **run_of(maker.definitions, work, force="scene_samples" in anew))
                    maker.end(run_outcome(work, result), time.perf_counter() - started)
            plan = Plan(platform, instance) if works else plan  # one look serves all levels at which nothing is made
            if cells and not (works or stopped or again):
                platform.echo(f"{exp_name}: {level.title}{told_cells(cells)}: current")
            for state in stopped if not report.stopped else (each for each in stopped if each.state != "waiting"):
                platform.echo(f"FAILED {state.asset} of {state.cell} is {state.told}")
                if state.mend:
                    platform.echo(f"    to mend it: `{state.mend}`")
            report.stopped += stopped
            failed = {
                cell.run_name for each in report.outcomes if _exit_code([each]) != DONE for cell in each.work.cells
            }
            going = [run for run in going if run not in failed]
            if "" in failed or (failed and not going):
                break
    finally:
        # Whatever ended it, what its checks found stands on the page; the last level writes it by itself.
        if report.outcomes and not (report.outcomes[-1].success and report.outcomes[-1].work.level.job == "report"):
            renew_pages(platform, instance)
    report.seconds = time.perf_counter() - began
    return report


def _open_states(
    plan: Plan,
    exp_name: str,
    runs: Sequence[str],
    scenes: Sequence[str],
    until: str | None,
    force: Collection[str],
) -> list[Pair]:
    """On a cluster, what a command would make; elsewhere nobody asks what it costs."""
    if plan.platform.settings.launcher == "local":
        return []
    states = plan.of_experiment(exp_name, runs, scenes, levels_until(until), until)
    return [(state.asset, state.cell) for state in states if _is_taken(state, force, scenes)]


def _say_cost(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    pairs: Sequence[Pair],
    *,
    asked: bool | None,
    dry_run: bool = False,
) -> None:
    """Before anything is submitted: what it will take, by past work or by a probe job, which is made first."""
    probe_first(platform, instance, exp_name, pairs, platform.echo, asked=asked, dry_run=dry_run)
    for line in estimate_lines(PastWork(platform, instance), pairs) if pairs else ():
        platform.echo(line)


def _asked(
    plan: Plan,
    instance: dg.DagsterInstance,
    level: Level,
    cells: Sequence[Cell],
    until: str | None,
    force: Collection[str],
    named: Sequence[str],
) -> tuple[list[Work], list[CellState]]:
    """The runs of a level that a person's command makes; and the cells that it can not make.

    Args:
        named: scenes that are taken as they are.
    """

    def takes(state: CellState) -> bool:
        return _is_taken(state, force, named)

    wanted: dict[Cell, tuple[str, ...]] = {}
    stopped: list[CellState] = []
    for cell in cells:
        assets = plan.assets_to_make(level, cell, takes, until)
        asked = assets_until(plan.platform, level, cell, until)
        states = [plan.state(asset, cell) for asset in asked if asset not in assets]
        first = next((state for state in states if state.state not in ("made", "absent")), None)
        if assets:
            wanted[cell] = assets
        elif first is not None and level.kind != "none":
            stopped.append(first)
    unfinished = [state.cell.scene_name for state in stopped if state.state == "waiting" and state.cell.scene_name]
    if unfinished:
        _refuse_unfinished(plan.platform, stopped[0].cell.exp_name, unfinished)
    return works_of(instance, level, wanted), stopped


def _is_taken(state: CellState, force: Collection[str], named: Sequence[str]) -> bool:
    """Whether a person's command makes a cell. `named`: scenes that are taken as they are."""
    by_name = state.state == "waiting" and state.cell.scene_name in named
    return state.is_work or state.state == "failed" or state.by_hand or by_name or state.asset in force


def _ask_anew(platform: Platform, instance: dg.DagsterInstance, assets: Sequence[str], cells: Sequence[Cell]) -> None:
    """Mark what there is as to be made anew, and tell what that took before. It stays, and counts, until the new one is whole."""
    past = PastWork(platform, instance)
    for asset in assets:
        seconds = [past.seconds(asset, cell) for cell in cells]
        known = [each for each in seconds if each is not None]
        cost = f"about {sum(known) / 60:.1f} minutes by past runs" if known else "it was never timed here"
        platform.echo(f"{asset}{told_cells(cells)} is made anew: {cost}")
        for cell in cells:
            # Samples of frozen data must come out as they were: their step is told, and nothing else counts on it.
            if asset != "scene_samples" or not platform.is_frozen(cell.exp_name):
                for unit in [*NODES[asset].units(platform, cell), *commanded(platform, asset, cell)]:
                    ask_anew(unit)


def _to_check_again(plan: Plan, level: Level, cells: Sequence[Cell], until: str | None) -> Iterator[tuple[str, Cell]]:
    """What of a level is made, and failed a blocking check last: what the check looked at may be mended since."""
    for cell in cells if level.kind != "none" else ():
        for asset in assets_until(plan.platform, level, cell, until):
            if plan.state(asset, cell).state == "made" and plan.failed_checks(asset, cell):
                yield asset, cell


@dataclass(frozen=True)
class _Maker:
    """Tells of the runs of one experiment; `outcomes` grows."""

    platform: Platform
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    exp_name: str
    outcomes: list[RunOutcome]

    def begin(self, work: Work, force: Collection[str]) -> list[str]:
        """Tell of a run. Returns those of its assets that are forced, and made anew."""
        anew = [asset for asset in work.assets if asset in force]
        if anew:
            _ask_anew(self.platform, self.instance, anew, work.cells)
        self.platform.echo(begun_line(self.exp_name, work))
        return anew

    def end(self, outcome: RunOutcome, seconds: float) -> None:
        """Tell what came of it."""
        self.outcomes.append(outcome)
        for line in ended_lines(self.exp_name, outcome, seconds):
            self.platform.echo(line)
        if not outcome.success:
            tell_where_no_daemon_does(self.platform, self.instance, outcome)

    def check_again(self, level: Level, asset: str, cell: Cell, failed: Sequence[str]) -> None:
        """Make those checks again that failed last (`asset.check`)."""
        names = [name.partition(".")[2] for name in failed]
        outcome = check_again(self.definitions, self.instance, level, asset, cell, names)
        self.outcomes.append(outcome)
        for reason in outcome.failed_checks:
            self.platform.echo(f"FAILED {reason}")
        if not outcome.failed_checks:
            self.platform.echo(f"{self.exp_name}: {', '.join(failed)} of {cell}: passed when made again")


def begun_line(exp_name: str, work: Work) -> str:
    """What is being made, as the step's first detail: its last line takes its place."""
    return f"  {exp_name}: {work.level.title}{told_cells(work.cells)} ..."


def ended_lines(exp_name: str, outcome: RunOutcome, seconds: float) -> list[str]:
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


def _refuse_unfinished(platform: Platform, exp_name: str, scenes: Sequence[str]) -> None:
    """Export no scene that is still being copied: a training would freeze what is there of it."""
    unfinished = unfinished_scenes(platform, platform.experiments.read(exp_name), sorted(scenes))
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


def tell_where_no_daemon_does(platform: Platform, instance: dg.DagsterInstance, outcome: RunOutcome) -> None:
    """Tell the failure command or mailbox of the settings; a daemon's sensor does it for every run, this one included."""
    run = instance.get_run_by_id(outcome.run_id)
    if run is None or daemon_runs(instance):
        return
    try:
        tell_of_failure(platform.settings, instance, run, "\n".join([*outcome.failed_checks, *outcome.errors]))
    except ThesisAssetsError as error:
        platform.echo(f"nobody could be told: {error}")


def run(
    exp: Annotated[str, typer.Option("--exp", help="The experiment: the name of its file.")],
    run_names: options.OnlyRuns = None,
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
    force: Annotated[
        list[str] | None,
        typer.Option(
            "--force",
            help="Make this asset anew, such as `nvs` or `tuned_checkpoint` (repeatable); the old one stays until then.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made, and why; start nothing.")
    ] = False,
    without: Annotated[
        Path | None,
        typer.Option(
            "--without",
            help="A table of samples (`sample_id`): make the runs, then once more without these, in a fork, and show the difference.",
        ),
    ] = None,
    probe: options.Probe = None,
    as_json: options.AsJson = False,
) -> None:
    """Make what one experiment declares and is not current.

    The cells are made in the graph's order, in this process; no daemon is needed. Stops at what fails, also at a failed blocking check
    (exit code 3); where one of several runs fails, the others go on. Interrupted, the same command goes on where it was.
    """
    from thesis_assets.experiments.writing import declare_derived_runs

    platform = load_platform()
    names = platform.runs_named(exp, run_names or ())
    if without is not None:
        if changes or force or until or scenes or dry_run:
            wrong_use("--without goes with --exp, --run, --probe and --json alone")
        _run_without(platform, exp, names, without, probe, as_json=as_json)
        return
    for name in [*([until] if until else []), *(force or ())]:
        _refuse_unknown_asset(name)
    order = [asset for level in LEVELS for asset in level.assets]
    reached = order if until is None else order[: order.index(until) + 1]
    if beyond := [name for name in force or () if name not in reached]:
        wrong_use(f"--force {beyond[0]} is not reached: the command ends with --until {until}")
    if changes and dry_run:
        wrong_use("--set writes a run into the experiment's file, and --dry-run writes nothing: give one of them")
    if changes:
        for name in declare_derived_runs(platform.experiments, exp, changes):
            progress_line(f"{exp}: run {name} is declared in {platform.experiments.path(exp)}")
            names.append(name)
    with dagster_instance(platform.settings, to_look=dry_run) as instance:
        try:
            if dry_run:
                _show_plan(platform, instance, exp, names, scenes or (), until, force or (), probe, as_json=as_json)
                return
            register(instance, plan_registration(platform, instance))
            report = run_experiment(
                platform, instance, exp, runs=names, scenes=scenes or (), until=until, force=force or (), probe=probe
            )
        except dg.Failure as error:
            wrong_use(error.description)
    if as_json:
        print_json(report.to_json())
    else:
        _say_what_next(platform, report)
    if report.exit_code != DONE:
        raise typer.Exit(report.exit_code)


def _run_without(
    platform: Platform, exp: str, names: Sequence[str], table: Path, probe: bool | None, *, as_json: bool
) -> None:
    from thesis_assets.cli.without import UNTIL, Without

    both = Without(platform, exp, names or list(platform.experiments.read(exp).runs), table)
    with dagster_instance(platform.settings) as instance:
        for exp_name in (exp, both.fork):
            if exp_name == both.fork:
                both.declare()
                progress_line(
                    f"{both.fork}: {exp} without the samples of {table}, in {platform.experiments.path(both.fork)}"
                )
            register(instance, plan_registration(platform, instance))
            try:
                report = run_experiment(platform, instance, exp_name, runs=both.runs, until=UNTIL, probe=probe)
            except dg.Failure as error:
                wrong_use(error.description)
            if report.exit_code != DONE:
                _say_what_next(platform, report)
                raise typer.Exit(report.exit_code)
    if as_json:
        print_json(both.to_json())
    else:
        both.say()
        print(f"next: `thesis-assets compare --exp {both.fork} --run {both.runs[0]} --against {exp}/{both.runs[0]}`")


def _refuse_unknown_asset(name: str) -> None:
    known = [asset for level in LEVELS for asset in level.assets]
    if name not in known:
        wrong_use(f"there is no asset '{name}' ({near_names(known, [name])}); `thesis-assets status` lists them")


def _show_plan(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    runs: Sequence[str],
    scenes: Sequence[str],
    until: str | None,
    force: Collection[str],
    probe: bool | None,
    *,
    as_json: bool,
) -> None:
    """Every cell that is not made, or follows from one that is not: what it is, and whether the command would make it."""
    platform.refuse_no_match(platform.experiments.read(exp_name), evaluated=False)
    platform.refuse_undeclared([Cell(exp_name, run_name=run) for run in runs])
    platform.refuse_undeclared([Cell(exp_name, scene_name=scene) for scene in scenes])
    plan, levels = Plan(platform, instance), levels_until(until)
    states = plan.of_experiment(exp_name, runs, scenes, levels, until)
    pairs = [(state.asset, state.cell) for state in states if _is_taken(state, force, scenes)]
    if platform.settings.launcher == "local":
        lines = estimate_lines(PastWork(platform, instance), pairs, queued=False) if pairs else []
    else:
        _say_cost(platform, instance, exp_name, pairs, asked=probe, dry_run=True)
        lines = []
    for line in [
        *lines,
        *_training_lines(platform, exp_name, [cell for asset, cell in pairs if asset == "tuned_checkpoint"]),
    ]:
        platform.echo(line)
    if as_json:
        print_json([state.row for state in states])
        return
    open_ones = [state for state in states if state.state not in ("made", "absent") or state.asset in force]
    if not open_ones:
        print(f"{exp_name}: everything is made")
        return
    refused = {state.mend for state in open_ones if state.state == "refused"}
    rows = [
        (
            state.asset,
            state.cell,
            state.state,
            _why(state, force),
            "" if _is_taken(state, force, scenes) else _mend(state, refused),
        )
        for state in open_ones
    ]
    print_table("What is not made", ("asset", "cell", "state", "why", "not by this command, but by"), rows)
    counts = Counter(state.state for state in open_ones)
    print(f"{', '.join(f'{count} {name}' for name, count in counts.most_common())}; nothing was started")


def _training_lines(platform: Platform, exp_name: str, cells: Sequence[Cell]) -> Iterator[str]:
    """The sweeps that trainings to come belong to, and what the checkpoints of all take."""
    sweeps, to_train = platform.experiments.read(exp_name).sweeps, {cell.run_name for cell in cells}
    for name in sweeps.unswept:
        points = sweeps.runs_of(name)
        if of_sweep := to_train & {*points}:
            values: dict[str, dict[str, None]] = {}
            for point in (sweeps.points[run] for run in points):
                for key, value in point.values.items():
                    values.setdefault(key, {})[written(value)] = None
            axes = " x ".join(f"{key} {', '.join(each)}" for key, each in values.items())
            yield f"sweep {name}: {len(points)} points ({axes}), {len(of_sweep)} of them to train"
    plans: dict[tuple[str, ...], list[str]] = {}
    wanted, free = dict[str, int | None](), 0
    for cell in cells:
        lines: tuple[str, ...] = ()
        try:
            plan = platform.plan_of_training(cell)
            if plan is None:
                lines = ("told when its data is there",)
            else:
                lines, wanted[cell.run_name], free = plan.lines, plan.wanted_bytes, plan.free_bytes
                plan.refuse_too_large(platform.difix(cell).tuning_run(cell.run_name))
        except ThesisAssetsError as error:
            lines = (*lines, f"refused: {error.in_one_line}")
        plans.setdefault(lines, []).append(cell.run_name)
    for lines, names in plans.items():
        yield from (f"plan of {first_names(names)}: {line}" for line in lines)
    if len(wanted) > 1:
        known = [n_bytes for n_bytes in wanted.values() if n_bytes is not None]
        rest = f", and those of {len(wanted) - len(known)} of unknown size" if len(known) < len(wanted) else ""
        room = "" if sum(known) <= free else ": more than is free"
        yield f"plan of {len(wanted)} trainings: about {human_bytes(sum(known))} of checkpoints{rest}{room}"


def _why(state: CellState, force: Collection[str]) -> str:
    return "; ".join(filter(None, ["to be made anew (--force)" if state.asset in force else "", state.why]))


def _mend(state: CellState, refused: Collection[str]) -> str:
    """What else makes a cell. `refused`: what mends the refused ones, which is long, and stands at them."""
    return "the same" if state.state == "waiting" and state.mend in refused else state.mend or "no"


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
        print(f"{report.exp_name}: not all is made; mend what is named above, then give the same command again")


# --- backfill: the plan first, then through the daemon where one runs, else in this process --------------------------


def backfill(
    exp: options.Exp,
    run_names: options.OnlyRuns = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Cells that were never made, or whose files are gone.")
    ] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Cells whose inputs have moved since they were made.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every declared cell.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; start nothing.")] = False,
    probe: options.Probe = None,
    as_json: options.AsJson = False,
) -> None:
    """Make some cells of an experiment, and what follows from them.

    Which ones: --missing, --stale or --all. The plan is shown first. Where a daemon runs, it makes the runs, and this command ends at
    once; else they are made here, in order, and a failed blocking check stops them (exit code 3).
    """
    given: dict[Mode, bool] = {"missing": missing, "stale": stale, "all": every}
    modes = [mode for mode, chosen in given.items() if chosen]
    if len(modes) != 1:
        wrong_use("choose one of --missing, --stale and --all")
    platform = load_platform()
    for line in platform.idle_globs(platform.experiments.read(exp)):
        progress_line(f"warning: {exp}: {line}")
    with dagster_instance(platform.settings, to_look=dry_run) as instance:
        for run_id in close_dead_runs(instance):
            progress_line(f"run {run_id[:8]} was killed before it ended; it is closed")
        if not dry_run:
            register(instance, plan_registration(platform, instance))
        try:
            ready, run_names = ReadyScenes(platform, time.time()), platform.runs_named(exp, run_names or ())
            plan = plan_backfill(platform, instance, exp, modes[0], ready, runs=run_names)
            if not dry_run:
                Plan(platform, instance, ready).refuse_no_place(exp, run_names)
            if probe_first(platform, instance, exp, plan.pairs, progress_line, asked=probe, dry_run=dry_run):
                plan = plan_backfill(platform, instance, exp, modes[0], ready, runs=run_names)
        except dg.Failure as error:
            wrong_use(error.description)
        through_daemon = daemon_runs(instance)
        if not as_json:
            _show(plan)
        done: dict[str, object] = {"through": "daemon" if through_daemon else "this process"}
        code = DONE
        if plan.cells and not dry_run:
            code = _act(platform, instance, plan, through_daemon, done, as_json)
    if as_json:
        print_json(_plan_json(plan) | done | {"dry_run": dry_run, "exit_code": code})
    elif dry_run and plan.cells:
        where = "to the daemon" if through_daemon else "in this process: no daemon runs"
        print(f"next: the same command without --dry-run; it goes {where}")
    if code != DONE:
        raise typer.Exit(code)


def _act(
    platform: Platform,
    instance: dg.DagsterInstance,
    plan: BackfillPlan,
    through_daemon: bool,
    done: dict[str, object],
    as_json: bool,
) -> int:
    from thesis_assets.definitions import build_defs

    definitions = build_defs(settings=platform.settings, echo=platform.echo)
    if through_daemon:
        backfill_id = hand_over(instance, definitions.resolve_asset_graph(), plan, asked_by="thesis-assets backfill")
        done["backfill"] = backfill_id
        if not as_json:
            print(f"backfill {backfill_id} is handed to the daemon")
            print("next: `thesis-assets status`, or the UI's page Runs > Backfills")
        return DONE

    step_began = 0.0

    def on_work(work: Work) -> None:
        nonlocal step_began
        step_began = time.perf_counter()
        progress_line(begun_line(plan.exp_name, work))

    outcomes: list[RunOutcome] = []
    try:
        for outcome in run_here(definitions, instance, plan, on_work):
            outcomes.append(outcome)
            for line in ended_lines(plan.exp_name, outcome, time.perf_counter() - step_began):
                progress_line(line)
            if not outcome.success:
                tell_where_no_daemon_does(platform, instance, outcome)
    finally:
        renew_pages(platform, instance)
    done["runs"] = [
        {"job": each.work.level.job, "cells": [str(cell) for cell in each.work.cells], "success": each.success}
        for each in outcomes
    ]
    if not as_json:
        print(f"{sum(each.success for each in outcomes)} of {len(outcomes)} runs succeeded")
    return _exit_code(outcomes)


def _show(plan: BackfillPlan) -> None:
    rows = []
    for asset, members in by_asset(plan):
        reasons = Counter(each.why for each in members)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        rows.append((asset, len(members), why, first_names([str(each.cell) for each in members]), _hours(members)))
    if rows:
        header = ("asset", "cells", "why", "which", "hours")
        print_table(f"Backfill of {plan.exp_name}: {plan.mode}", header, rows)
    if any(each.is_repair for each in plan.cells):
        print(
            "lost files alone come back: nothing is made anew for it, unless they come out otherwise; `status` says so then"
        )
    for cell, why in plan.waiting.items():
        print(f"waits: {cell}: {' '.join(why.split())}")
    if not plan.cells:
        nothing = {"missing": "is missing, damaged or failed", "stale": "is stale", "all": "can be made"}[plan.mode]
        print(
            f"{plan.exp_name}: nothing {nothing}"
            + ("" if plan.waiting else "; `thesis-assets status` tells of the rest")
        )
        return
    unknown = f"; without {', '.join(plan.unknown)}, which were never made" if plan.unknown else ""
    about = (
        f"about {plan.hours:.2f} hours, {plan.gpu_hours:.2f} hours on the GPU {known_by(plan.costs) or 'by past runs'}"
    )
    print(f"{len(plan.cells)} cells; {about}{unknown}")


def _hours(members: Sequence[PlannedCell]) -> str:
    known = [each.seconds for each in members if each.seconds is not None]
    return f"{sum(known) / 3600:.2f}" if known else "unknown"


def _plan_json(plan: BackfillPlan) -> dict[str, object]:
    return {
        "exp_name": plan.exp_name,
        "mode": plan.mode,
        "cells": [
            {
                "asset": each.asset,
                "cell": str(each.cell),
                "why": each.why,
                "repair": each.is_repair,
                "seconds": each.seconds,
                "gpu": each.asset in GPU_ASSETS,
            }
            for each in plan.cells
        ],
        "waiting": plan.waiting,
        "hours": round(plan.hours, 4),
        "gpu_hours": round(plan.gpu_hours, 4),
        "by_probe": any(cost.by_probe for cost in plan.costs),
        "without_past_work": plan.unknown,
    }
