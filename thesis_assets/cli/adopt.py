"""`thesis-assets adopt`: take in what other scripts left, touching nothing of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import dagster as dg
import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import (
    CHECK_FAILED,
    FAILED,
    dagster_instance,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.registration import plan_registration, register
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.layout import DifixTree
from thesis_assets.storage import write_text

if TYPE_CHECKING:
    from thesis_assets.adoption.planned import PlannedExperiment
    from thesis_assets.adoption.scan import Findings

ENVIRONMENT = Path(".env")
WRITTEN_BY_US = ("THESIS_DIFIX_DATA_ROOT_DIR", "THESIS_RESULTS_ROOT_DIR")
"""Roots that the platform writes into: those of the older scripts stay as they are, so they are named and not set."""


@dataclass
class Report:
    """What an adoption came to."""

    settings: dict[str, str] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    """By name: its file."""
    failed_checks: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def adopt(
    folder: Annotated[Path, typer.Argument(help="Where the older data, results or configuration lie.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and say what would be done; write nothing.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Take in what other scripts left, without touching it.

    Snapshots, tuning runs, evaluated trees and configuration. Writes `.env` (missing settings only) and experiment files, links the files under our names, registers materializations, and
    makes every check. Says what it found wrong. Given again, it goes on. Exit code 3 where a check failed.
    """
    from thesis_assets.adoption.planned import plan
    from thesis_assets.adoption.scan import scan
    from thesis_assets.adoption.writing import environment_text
    from thesis_assets.scenes.catalog import list_scenes

    findings = scan(folder)
    report = Report(_settings(findings))
    if not dry_run:
        text, other = environment_text(ENVIRONMENT, report.settings)
        for name, value in other.items():
            findings.complain(
                ENVIRONMENT.absolute(),
                f"{name} is {value}, and was found as {report.settings[name]}",
                "it stays as it is",
            )
        if not ENVIRONMENT.is_file() or text != ENVIRONMENT.read_text(encoding="utf-8"):
            write_text(ENVIRONMENT, text)
    platform = load_platform()
    # Evaluated trees of the results root are this platform's own: their experiments evaluate them.
    for found in [each for each in findings.scores if each.folder.is_relative_to(platform.settings.results_root)]:
        findings.scores.remove(found)
        findings.complain(found.folder, "it lies in the results root", "left to the experiment that it belongs to")
    planned = plan(findings, platform.settings.adopted, list_scenes(platform.roots))
    if not dry_run:
        _take_in(platform, findings, planned, report)
    _say(findings, planned, report, dry_run=dry_run, as_json=as_json)
    if report.errors:
        raise typer.Exit(FAILED)
    if report.failed_checks:
        raise typer.Exit(CHECK_FAILED)


def _settings(findings: "Findings") -> dict[str, str]:
    """Settings of all configurations, the first one of a name; the scene files' folder where nothing else names it."""
    found: dict[str, str] = {}
    for file, settings in findings.configurations.items():
        for name, value in settings.items():
            if found.setdefault(name, value) != value:
                findings.complain(file, f"{name} is {value}, and elsewhere {found[name]}", "the first is kept")
    if findings.scene_files:
        found.setdefault("THESIS_SCENE_REGISTRY_DIR", str(next(iter(findings.scene_files))))
    for name in WRITTEN_BY_US:
        if name in found:
            findings.complain(
                findings.root,
                f"{name} was {found.pop(name)}",
                "not set: new data and results go to the data home, beside the links; set it yourself to write there",
            )
    return found


def _take_in(platform: Platform, findings: "Findings", planned: "list[PlannedExperiment]", report: Report) -> None:
    with dagster_instance(platform.settings) as instance:
        for experiment in planned:
            try:
                exp_name = _write(platform, findings, experiment, report)
                register(instance, plan_registration(platform, instance))
                _register(platform, instance, exp_name, experiment, report)
            except (ThesisAssetsError, dg.Failure) as error:
                said = error.description if isinstance(error, dg.Failure) else error
                report.errors.append(f"{experiment.wanted_name}: {said}")


def _write(platform: Platform, findings: "Findings", experiment: "PlannedExperiment", report: Report) -> str:
    """The experiment file, then the links. Returns the experiment's name."""
    from thesis_assets.adoption.writing import free_name, mirror, write_experiment

    folder = platform.settings.experiments_dir
    exp_name = free_name(
        folder, experiment.wanted_name, experiment.value, lambda name: _is_free(platform, name, experiment)
    )
    complaints = [each for each in findings.complaints if each.place.is_relative_to(experiment.origin)]
    path = write_experiment(folder, exp_name, experiment.value, experiment.origin, complaints)
    report.experiments[exp_name] = str(path)
    if experiment.snapshot is not None:
        _adopt_snapshot(platform, findings, experiment, exp_name)
    for (run_name, scene_name), found in experiment.scores.items() if experiment.mirrored else ():
        target = platform.settings.adopted.scores(exp_name, run_name, scene_name)
        if not target.base.exists():
            platform.echo(f"{exp_name}/{run_name}/{scene_name}: {mirror(found, target)} files linked")
    return exp_name


def _is_free(platform: Platform, exp_name: str, experiment: "PlannedExperiment") -> bool:
    """Whether a snapshot of that name may be written: there is none, or it is the one that was adopted from here before."""
    from thesis_assets.samples.snapshot import frozen_snapshot

    tree = platform.difix(Cell(exp_name))
    if experiment.snapshot is None or not tree.base.exists():
        return True
    if _is_in_place(tree, experiment):
        return tree.generation_stats.is_file() and tree.scene_runs_dir.is_dir()
    frozen = frozen_snapshot(tree)
    return frozen is not None and frozen.reason == f"adopted from {experiment.origin}"


def _is_in_place(tree: DifixTree, experiment: "PlannedExperiment") -> bool:
    """Whether the snapshot lies already where the platform keeps it: then only its history is made."""
    return experiment.snapshot is not None and tree.base.resolve() == experiment.snapshot.folder.resolve()


def _adopt_snapshot(platform: Platform, findings: "Findings", experiment: "PlannedExperiment", exp_name: str) -> None:
    from thesis_assets.adoption.writing import adopt_run, adopt_snapshot
    from thesis_assets.samples.snapshot import frozen_snapshot

    assert experiment.snapshot is not None
    tree = platform.difix(Cell(exp_name))
    if _is_in_place(tree, experiment):
        return
    if tree.base.is_relative_to(findings.root):
        raise ThesisAssetsError(
            "the links would be written into the folder that is adopted",
            file=tree.base,
            wanted="a data home outside of it",
            remedy="set THESIS_DATA_HOME (or THESIS_DIFIX_DATA_ROOT_DIR) to another folder, then adopt again",
        )
    if frozen_snapshot(tree) is None:
        spec = platform.experiments.read(exp_name)
        adopt_snapshot(experiment.snapshot, experiment.rows, spec, tree, platform.roots, findings, platform.echo)
    for run, declared in experiment.runs:
        if not all(tree.tuning_run(run.run_name).checkpoint_info(step).is_file() for step in declared.saved_steps()):
            adopt_run(run, declared, tree, findings, platform.echo)


def _register(
    platform: Platform, instance: dg.DagsterInstance, exp_name: str, experiment: "PlannedExperiment", report: Report
) -> None:
    from thesis_assets.defs.adoption import evaluate_adopted, register_snapshot

    if experiment.snapshot is not None:
        origin = str(experiment.origin)
        report.failed_checks += register_snapshot(platform, instance, exp_name, origin, platform.echo)
    if experiment.scores:
        for outcome in evaluate_adopted(platform, instance, exp_name):
            report.failed_checks += [f"{line} ({outcome.work.cells[0]})" for line in outcome.failed_checks]
            report.errors += [f"{outcome.work.cells[0]}: {line}" for line in outcome.errors]


def _say(
    findings: "Findings", planned: "list[PlannedExperiment]", report: Report, *, dry_run: bool, as_json: bool
) -> None:
    rows = [_row(experiment) for experiment in planned]
    if as_json:
        print_json(
            {
                "folder": str(findings.root),
                "dry_run": dry_run,
                "found": [
                    dict(zip(("experiment", "samples", "runs", "evaluated scenes", "from"), row, strict=True))
                    for row in rows
                ],
                "scene_files": [
                    {"folder": str(folder), "scenes": len(scenes)} for folder, scenes in findings.scene_files.items()
                ],
                "settings": report.settings,
                "experiments": report.experiments,
                "complaints": [complaint.__dict__ for complaint in findings.complaints],
                "failed_checks": report.failed_checks,
                "errors": report.errors,
            }
        )
        return
    if findings.is_empty:
        progress_line(
            f"nothing was recognised below {findings.root}: a snapshot has samples/ and manifests/, an evaluated tree evaluation/"
        )
    print_table("Found", ("experiment", "samples", "runs", "evaluated scenes", "from"), rows)
    for folder, scenes in list(findings.scene_files.items())[1:]:
        print(f"a choice of {len(scenes)} scenes: `generation.scenes_from: {folder}` names them in an experiment")
    if findings.complaints:
        complaints = [(complaint.problem, complaint.remedy, str(complaint.place)) for complaint in findings.complaints]
        print_table("What was found wrong", ("what", "and so", "where"), complaints)
    if dry_run:
        print("nothing was written; without --dry-run it is")
        return
    print(f"settings in {ENVIRONMENT}: {', '.join(report.settings) or 'none'}")
    for exp_name, path in report.experiments.items():
        print(f"{exp_name}: {path}")
    for line in [*report.failed_checks, *report.errors]:
        print(f"FAILED {line}")
    print("next: `thesis-assets status`, `thesis-assets leaderboard`, `thesis-assets checks report`")


def _row(experiment: "PlannedExperiment") -> tuple[str, int, str, int, str]:
    runs = sorted({run.run_name for run, _ in experiment.runs} | {run for run, _ in experiment.scores})
    scenes = {scene for _, scene in experiment.scores}
    return experiment.wanted_name, len(experiment.rows.rows), ", ".join(runs), len(scenes), str(experiment.origin)
