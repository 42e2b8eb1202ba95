"""`thesis-assets demo`: the demo scenes, their registration, both demo experiments, and what came of it."""

import shutil
import sys
import time
from pathlib import Path

import dagster as dg
import typer

from thesis_assets.cli.console import (
    DONE,
    JsonOption,
    dagster_instance,
    load_platform,
    print_json,
    progress_line,
)
from thesis_assets.cli.doctor_machine import Finding, absent_parts
from thesis_assets.cli.run import run_experiment
from thesis_assets.cli.summary import GainRow, asset_rows, gain_rows, made_line
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform

DEMO_EXPERIMENTS = ("motorcycle", "demo")


def demo(as_json: JsonOption = False) -> None:
    """Make the demo scenes and run the whole graph on them.

    A second time it finishes at once: nothing is done twice.
    """
    from thesis_assets.defs.registration import plan_registration, register
    from thesis_assets.demo.motorcycle import make_motorcycle
    from thesis_assets.demo.studio import make_studio

    began = time.perf_counter()
    platform = load_platform()
    make_studio(platform.roots, lambda line: platform.echo(f"  {line}"))
    make_motorcycle(platform.roots)
    progress_line(f"demo scenes: {time.perf_counter() - began:.0f} s")
    with dagster_instance(platform.settings) as instance:
        register(instance, plan_registration(platform, instance))
        reports = []
        for name in DEMO_EXPERIMENTS:
            report = run_experiment(platform, instance, name)
            reports.append(report)
            if report.exit_code != DONE:
                progress_line(f"{name} stopped; mend what is named above, then give the same command again")
                raise typer.Exit(report.exit_code)
        seconds, n_made = time.perf_counter() - began, sum(len(report.outcomes) for report in reports)
        if not as_json:
            last_screen(platform, instance, seconds=seconds, n_made=n_made)
            return
        rows = [row for name in DEMO_EXPERIMENTS for row in asset_rows(platform, instance, name)]
    gains = gain_rows(platform, DEMO_EXPERIMENTS[-1])
    print_json({"seconds": seconds, "assets": rows, "gains": gains, "runs": [each.to_json() for each in reports]})


def last_screen(platform: Platform, instance: dg.DagsterInstance, *, seconds: float, n_made: int) -> None:
    """What was made, what is absent and how to get it, and what to open: 25 lines of 140 columns at most."""
    rows = [row for name in DEMO_EXPERIMENTS for row in asset_rows(platform, instance, name)]
    made = made_line(platform, instance, DEMO_EXPERIMENTS, rows)
    print(f"Made in {seconds:.0f} s: {made}" if n_made else f"Everything is current ({seconds:.0f} s): {made}")
    print("PSNR in dB of views of people that were in no training sample:")
    print(f"  {'run':<8}{'on':<34}{'views':>5}{'unrefined':>11}{'refined':>9}{'gain':>7}")
    for run_name, where, _, views, unrefined, refined, gain in _first_and_last(
        gain_rows(platform, DEMO_EXPERIMENTS[-1])
    ):
        print(f"  {run_name:<8}{where:<34}{views:>5}{unrefined:>11.2f}{refined:>9.2f}{gain:>+7.2f}")
    run_name = next(iter(platform.experiments.read(DEMO_EXPERIMENTS[-1]).runs))
    cell = Cell(DEMO_EXPERIMENTS[-1], run_name=run_name)
    _say_what_is_absent(platform, cell)
    _say_what_to_open(platform, cell)


def _first_and_last(gains: list[GainRow]) -> list[GainRow]:
    """Of each run what it was chosen by and its last evaluated epoch: the epochs between stand in the leaderboard."""
    of_run: dict[str, list[GainRow]] = {}
    for row in gains:
        of_run.setdefault(row[0], []).append(row)
    return [row for rows in of_run.values() for row in dict.fromkeys([rows[0], rows[-1]])]


def _say_what_is_absent(platform: Platform, cell: Cell) -> None:
    from thesis_assets.layout import EvaluationTree

    parts = absent_parts(platform.settings)
    recordings = [path for tree in platform.evaluation_trees(cell).values() for path in tree.rerun_dir.glob("*.rrd")]
    drawn = any(EvaluationTree.recording_previews(path).is_dir() for path in recordings)
    if not drawn and "Vulkan driver" not in {part.what for part in parts}:
        command = f"{_program()} rerun preview --exp {cell.exp_name} --run {cell.run_name}"
        parts.append(Finding("pictures", "missing", "none of the recordings", f"{command} draws them, or says why"))
    if parts:
        print("Absent here; everything else works without:")
    for part in parts:
        print(f"  {part.what:<15}{part.found:<33}{part.fix}")


def _say_what_to_open(platform: Platform, cell: Cell) -> None:
    opened = [
        (_short(platform.settings.reports.index), "all results on one page: open the file in a browser"),
        ("make ui", "the graph with its history, on http://127.0.0.1:3000"),
        (f"{_program()} rerun open --exp {cell.exp_name} --run {cell.run_name} --web", "the recordings, in a browser"),
        (f"{_program()} leaderboard", "the evaluated runs; `status`: what is made, and what is not"),
        ("docs/your_own_scenes.md", "the same with your own data"),
    ]
    print("Next:")
    width = max(len(each) for each, _ in opened) + 2
    for each, why in opened:
        print(f"  {each:<{width}}{why}")


def _program() -> str:
    """How this program is called here: by its name where the shell finds this very one, else by its path."""
    name, ours = "thesis-assets", Path(sys.argv[0]).absolute()
    found = shutil.which(name)
    return name if ours.name != name or (found and Path(found).samefile(ours)) else _short(ours)


def _short(path: Path) -> str:
    """The path from the working directory on, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
