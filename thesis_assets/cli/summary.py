"""What a finished experiment amounts to: a row an asset, and the gain of every run on people it never saw."""

from collections import Counter
from collections.abc import Sequence

import dagster as dg

from thesis_assets.cli.console import human_bytes
from thesis_assets.defs.assets.declaration import SECONDS, STEP
from thesis_assets.defs.check_history import check_rows
from thesis_assets.defs.checks.outcomes import ABSENCES
from thesis_assets.defs.footprint import footprint
from thesis_assets.defs.graph import latest_metadata
from thesis_assets.defs.jobs import LEVELS
from thesis_assets.defs.levels import cells_of_level
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.layout import epoch_name
from thesis_assets.schemas.evaluation import parse_results
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.storage import read_json

AssetRow = tuple[str, str, int, int, int, float, str]
GainRow = tuple[str, str, str, int, float, float, float]


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
            sizes = [footprint(platform, asset, cell) for cell in done]
            keys = {str(cell) for cell in done}
            outcomes = [row.status for row in checks if row.asset == asset and row.cell in keys]
            rows.append(
                (
                    exp_name,
                    asset,
                    len(done),
                    sum(count for count, _ in sizes),
                    sum(size for _, size in sizes),
                    round(_seconds(list(made.values())), 1),
                    _passed(outcomes),
                )
            )
    return rows


def _passed(outcomes: list[str]) -> str:
    """`4 of 4`; `2 of 4, 2 warnings`; empty without a check."""
    warnings = outcomes.count("warning")
    text = f"{outcomes.count('passed')} of {len(outcomes)}" if outcomes else ""
    return f"{text}, {warnings} {'warning' if warnings == 1 else 'warnings'}" if warnings else text


def _seconds(materializations: list[dict[str, object] | None]) -> float:
    """Seconds of the steps, each once: cells of one single-run step share its time."""
    steps = {str(each.get(STEP)): float(str(each.get(SECONDS, 0))) for each in materializations if each is not None}
    return sum(steps.values())


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
