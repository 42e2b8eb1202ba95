"""`thesis-assets demo`: the demo scenes, their registration, both demo experiments, and what came of them, on one screen."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import DONE, dagster_instance, human_bytes, load_platform, print_json, progress_line
from thesis_assets.cli.doctor import Finding, absent_parts
from thesis_assets.cli.run import run_experiment
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.checks import ABSENCES
from thesis_assets.graph.nodes import LEVELS, SECONDS, STEP, footprint, latest_metadata, records_of
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import cells_of_level
from thesis_assets.layout import epoch_name
from thesis_assets.schemas.evaluation import parse_results
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.storage import read_json

DEMO_EXPERIMENTS = ("motorcycle", "demo")
AssetRow = tuple[str, str, int, int, int, float, str]
GainRow = tuple[str, str, str, int, float, float, float]


def demo(as_json: options.AsJson = False) -> None:
    """Make the demo scenes and run the whole graph on them.

    A second time it finishes at once: nothing is done twice.
    """
    from thesis_assets.demo.motorcycle import make_motorcycle
    from thesis_assets.demo.studio import make_studio
    from thesis_assets.operations.registration import plan_registration, register

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


# --- what a finished experiment amounts to ---------------------------------------------------------------------------


def asset_rows(platform: Platform, instance: dg.DagsterInstance, exp_name: str) -> list[AssetRow]:
    """(experiment, asset, cells, files, bytes, seconds, checks passed) of every materialized asset."""
    checks = check_rows(instance)
    rows: list[AssetRow] = []
    for level in LEVELS:
        if level.kind == "none" or level.job == "publish":
            continue
        cells = cells_of_level(platform, level, exp_name, (), ())
        for asset in level.assets:
            made = {cell: latest_metadata(instance, asset, cell) for cell in cells}
            done = [cell for cell, metadata in made.items() if metadata is not None]
            if not done:
                continue
            sizes = [footprint(records_of(platform, asset, cell)) for cell in done]
            keys = {str(cell) for cell in done}
            outcomes = [row.status for row in checks if row.asset == asset and row.cell in keys]
            # Each step once: cells of one single-run step share its time.
            steps = {
                str(each.get(STEP)): float(str(each.get(SECONDS, 0))) for each in made.values() if each is not None
            }
            files, size, seconds = sum(count for count, _ in sizes), sum(size for _, size in sizes), sum(steps.values())
            rows.append((exp_name, asset, len(done), files, size, round(seconds, 1), _passed(outcomes)))
    return rows


def _passed(outcomes: list[str]) -> str:
    """`4 of 4`; `2 of 4, 2 warnings`; empty without a check."""
    warnings = outcomes.count("warning")
    text = f"{outcomes.count('passed')} of {len(outcomes)}" if outcomes else ""
    return f"{text}, {warnings} {'warning' if warnings == 1 else 'warnings'}" if warnings else text


def made_line(platform: Platform, instance: dg.DagsterInstance, exp_names: Sequence[str], rows: list[AssetRow]) -> str:
    """`7 scenes, 265 triplets, 2 tuned checkpoints, ...`: the rows of some experiments, added up."""
    cells: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for _, asset, n_cells, n_files, *_ in rows:
        cells[asset] += n_cells
        files[asset] += n_files
    trees = [platform.difix(Cell(name)) for name in exp_names]
    triplets = sum(read_json(tree.split_summary, SplitSummary).n_all for tree in trees if tree.split_summary.is_file())
    recordings = sum(files[asset] for asset in next(level for level in LEVELS if level.job == "record").assets)
    checks = [row for row in check_rows(instance) if row.cell.split("|")[0] in exp_names]
    # What this machine lacks is said beside it, with what brings it.
    outcomes = Counter(row.status for row in checks if row.check not in ABSENCES)
    counts = {
        "scenes": cells["scene_samples"],
        "triplets": triplets,
        "tuned checkpoints": cells["selected_checkpoint"],
        "evaluated runs": cells["evaluation_manifest"],
        "recordings": recordings,
        "checks passed": outcomes["passed"],
        "warnings": outcomes["warning"],
        "failed": outcomes["failed"],
    }
    told = ", ".join(
        f"{count} {what.removesuffix('s') if count == 1 else what}" for what, count in counts.items() if count
    )
    return f"{told}; {human_bytes(sum(row[4] for row in rows))}"


def gain_rows(platform: Platform, exp_name: str) -> list[GainRow]:
    """(run, scene or group, step, views, unrefined, refined, gain) on the selection's groups and the evaluated scenes."""
    rows: list[GainRow] = []
    spec = platform.experiments.read(exp_name)
    for run_name, run in spec.runs.items():
        cell = Cell(exp_name, run_name=run_name)
        path = platform.difix(cell).tuning_run(run_name).selected_checkpoint
        if not path.is_file():
            continue
        selected = read_json(path, SelectedCheckpoint)
        for score in selected.scores:
            if score.step == selected.step:
                where = "selection: " + ", ".join(selected.selection_groups)
                gain = score.psnr - score.psnr_render
                rows.append((run_name, where, str(score.step), score.n_samples, score.psnr_render, score.psnr, gain))
        rows += _evaluated(platform, cell, spec.evaluation.epoch_steps(run))
    return [(*row[:4], *(round(value, 3) for value in row[4:])) for row in rows]  # type: ignore[misc]


def _evaluated(platform: Platform, cell: Cell, epochs: dict[int, int | None]) -> list[GainRow]:
    rows: list[GainRow] = []
    unrefined = next((epoch for epoch, step in epochs.items() if step is None), None)
    if unrefined is None:
        return rows
    for name, tree in platform.evaluation_trees(cell).items():
        before = tree.task(unrefined, "nvs")
        for epoch, step in epochs.items():
            after = tree.task(epoch, "nvs")
            if step is None or not (before.nvs_results.is_file() and after.nvs_results.is_file()):
                continue
            was = parse_results(before.nvs_results.read_text(encoding="utf-8"))["psnr"]
            now = parse_results(after.nvs_results.read_text(encoding="utf-8"))["psnr"]
            views = sum(1 for line in after.nvs_per_frame.read_text(encoding="utf-8").splitlines()[1:] if line)
            rows.append((cell.run_name, f"{name} {epoch_name(epoch)}", str(step), views, was, now, now - was))
    return rows
