"""The experiments: their files written from an example or another one, registered, their data frozen or set aside; and `adopt`.

`thesis-assets adopt` takes in what other scripts left, touching nothing of it.
"""

import tempfile
import time
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
    wrong_use,
)
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.layout import DifixTree
from thesis_assets.operations.registration import (
    fork_for_late_scenes,
    late_scenes,
    plan_registration,
    register,
    remove_withdrawn,
)
from thesis_assets.storage import write_text

if TYPE_CHECKING:
    from thesis_assets.adoption.planned import PlannedExperiment
    from thesis_assets.adoption.scan import Findings

ANNOTATED = "hi4d_v1"

experiment_app = typer.Typer(no_args_is_help=True)


@experiment_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The experiment's name: its file, its `exp_name`, its folder of data.")],
    example: Annotated[
        str, typer.Option("--from", help="The example that is copied; the default one explains every key.")
    ] = ANNOTATED,
    as_json: options.AsJson = False,
) -> None:
    """Write an experiment file from an example.

    With its comments, in which every key is explained. A file that is there is never written over.
    """
    from thesis_assets.experiments.writing import examples, fork_experiment

    platform = load_platform()
    examples().read(example)
    fork_experiment(examples().path(example), name, platform.settings.experiments_dir)
    path = platform.experiments.path(name)
    if as_json:
        print_json({"exp_name": name, "from": example, "file": str(path)})
        return
    print(f"{path} is written, from the example {example}")
    print(
        "next: name your scenes in it, then `thesis-assets sync --dry-run` says what it would register, or what is wrong"
    )


def sync(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be registered; change nothing.")] = False,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove-withdrawn", help="Take keys away that no experiment file declares and that have no data on disk."
        ),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Register the partitions that the experiment files declare.

    The pools' slots, too. A bad file is refused with its line and key; the others are registered. Keys that no file declares any
    more stay unless you ask. Where scenes came after an experiment was frozen, its fork is written if the file says `auto_fork`, else the
    command for it is named.
    """
    platform = load_platform()
    ready = ReadyScenes(platform, time.time())
    forked = [] if dry_run else fork_for_late_scenes(platform, ready)
    late = late_scenes(platform, ready)
    with dagster_instance(platform.settings) as instance:
        plan = plan_registration(platform, instance)
        if not dry_run:
            register(instance, plan)
        removed = remove_withdrawn(instance, plan) if remove and not dry_run else {}
    if as_json:
        forks = {
            "forked": {one.exp_name: one.fork for one in forked},
            "late_scenes": {one.exp_name: one.scenes for one in late},
        }
        print_json({**plan.__dict__, **forks, "removed": removed, "dry_run": dry_run})
    else:
        rows = [
            (name, len(cell["scenes"]), len(cell["runs"]), ", ".join(cell["runs"])) for name, cell in plan.cells.items()
        ]
        print_table("Experiments", ("experiment", "scenes", "runs", "names of runs"), rows)
        verb = "would be registered" if dry_run else "registered"
        print(f"{plan.n_added} new keys {verb}; pools: {plan.pools}")
        for dimension, keys in plan.withdrawn.items():
            if keys:
                word = "removed" if dimension in removed else "kept"
                if dry_run and remove and dimension in plan.removable:
                    word = "would be removed"
                print(f"no longer declared, {word}: {dimension} {', '.join(keys)}")
        for one in forked:
            print(f"{one.exp_name} is frozen; {one.fork} is its fork, with {', '.join(one.scenes)}")
        for one in late:
            what = "sync without --dry-run forks it" if one.by_itself else f"`{one.command}` takes them"
            print(f"{one.exp_name} is frozen, and scenes came later: {', '.join(one.scenes)}; {what}")
        for line in plan.warnings:
            print(f"warning: {line}")
        for name, reason in plan.refused.items():
            print(f"refused: {name}: {reason}")
    if plan.refused:
        raise typer.Exit(FAILED)


def fork(
    exp: Annotated[str, typer.Option("--exp", help="The experiment to fork.")],
    name: Annotated[str, typer.Option("--as", help="The name of the new experiment; there must be no file of it yet.")],
    as_json: options.AsJson = False,
) -> None:
    """Write an experiment's file once more, under another name.

    Its run links the samples that both have in common and renders only what is new.
    """
    from thesis_assets.experiments.writing import fork_experiment

    platform = load_platform()
    platform.experiments.read(exp)
    spec = fork_experiment(platform.experiments.path(exp), name)
    shared, new = _shared_and_new(platform, spec)
    path = platform.experiments.path(name)
    if as_json:
        print_json(
            {"exp_name": name, "forked_from": exp, "file": str(path), "shared_scenes": shared, "new_scenes": new}
        )
        return
    print(f"{path} is written: {exp} under the name {name}")
    print(f"scenes whose samples will be linked: {len(shared)}; to be rendered: {len(new)} {', '.join(new)}".rstrip())
    print(f"next: change what you want in the file, then `thesis-assets run --exp {name}`")


def _shared_and_new(platform: Platform, spec: ExperimentSpec) -> tuple[list[str], list[str]]:
    """The fork's scenes: those of which an experiment here has equal samples, and the others."""
    from thesis_assets.samples.shards import has_equal_shard, shard_unit
    from thesis_assets.scenes.matching import group_id

    tree = platform.difix(Cell(spec.exp_name))
    shared: list[str] = []
    new: list[str] = []
    for scene_name in platform.scene_names(spec):
        group = group_id(scene_name, spec.split.group_rules)
        unit = shard_unit(tree, platform.roots, scene_name, spec.generation, group, device=platform.device)
        (shared if has_equal_shard(tree, unit) else new).append(scene_name)
    return shared, new


def freeze_command(
    exp: Annotated[str, typer.Option("--exp", help="The experiment whose snapshot is to stay as it is.")],
    as_json: options.AsJson = False,
) -> None:
    """Let nothing change an experiment's data any more.

    Its samples, manifests and data.json stay as they are, so that every run is made from the same. The first tuning run does it too.
    """
    from thesis_assets.splits.snapshot_guard import freeze

    platform = load_platform()
    platform.experiments.read(exp)
    snapshot = freeze(platform.difix(Cell(exp)), reason="frozen by command")
    if as_json:
        print_json(snapshot.model_dump(mode="json"))
    else:
        print(f"{exp} is frozen: {snapshot.n_train} train and {snapshot.n_test} test samples")


def set_aside_command(
    exp: options.Exp,
    yes: Annotated[bool, typer.Option("--yes", help="Move the samples; without it they are only shown.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show samples that no scene of the experiment has.

    With --yes they are moved out of `samples/`: they go to `set_aside/` in the experiment's folder; nothing is deleted.
    """
    from thesis_assets.samples.snapshot import set_aside, unnamed_samples

    platform = load_platform()
    scenes = platform.scene_names(platform.experiments.read(exp))
    tree = platform.difix(Cell(exp))
    found = {scene: len(samples) for scene, samples in unnamed_samples(tree, scenes).items()}
    if yes:
        set_aside(tree, scenes)
    if as_json:
        print_json({"exp_name": exp, "moved": yes, "samples": found})
        return
    print_table("Samples that do not belong to the experiment", ("scene", "samples"), list(found.items()))
    if found and not yes:
        print("next: the same command with --yes moves them; then `thesis-assets run` collects and checks again")


def archive_command(
    exp: options.OnlyExp = None,
    back: Annotated[bool, typer.Option("--back", help="Bring an archived experiment back.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Lay an experiment aside, or bring it back.

    Out of lists, sensors, boards and pages; all its files stay. Without --exp: what is laid aside.
    """
    from thesis_assets.experiments.writing import bring_back
    from thesis_assets.operations.registration import archive
    from thesis_assets.operations.report_pages import leaderboard_of, renew_pages, write_leaderboard

    platform = load_platform()
    folder = platform.experiments
    if exp is None:
        if back:
            wrong_use("--back needs --exp: `thesis-assets archive` lists what is laid aside")
        names = folder.archive.names()
        if as_json:
            print_json({"archived": names})
        else:
            print("\n".join(names) or "nothing is archived; `thesis-assets archive --exp <name>` lays one aside")
        return
    with dagster_instance(platform.settings) as instance:
        if back:
            bring_back(folder, exp)
            plan = plan_registration(platform, instance)
            register(instance, plan)
            keys = plan.added
        else:
            keys = archive(platform, instance, exp)
        write_leaderboard(platform, leaderboard_of(platform))
        renew_pages(platform, instance)
    file = (folder if back else folder.archive).path(exp)
    if as_json:
        print_json({"exp_name": exp, "archived": not back, "file": str(file), "keys": keys})
    elif back:
        print(f"{exp} is back: {file}\nnext: `thesis-assets status --exp {exp}`")
    else:
        print(f"{exp} is archived: {file}; its data stays in {platform.difix(Cell(exp)).base}")
        print(f"next: nothing; `thesis-assets archive --exp {exp} --back` brings it back")


# --- adopt: what other scripts left, under our names -----------------------------------------------------------------


ENVIRONMENT = Path(".env")
WRITTEN_BY_US = ("THESIS_DIFIX_DATA_ROOT_DIR", "THESIS_RESULTS_ROOT_DIR")
"""Roots that the platform writes into: those of the older scripts stay as they are, so they are named and not set."""


@dataclass
class Adoption:
    """What an adoption came to."""

    settings: dict[str, str] = field(default_factory=dict)
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

    findings = scan(folder)
    report = Adoption(_found_settings(findings))
    text, other = environment_text(ENVIRONMENT, report.settings)
    for name, value in other.items():
        findings.complain(
            ENVIRONMENT.absolute(),
            f"{name} is {value}, and was found as {report.settings[name]}",
            "it stays as it is",
        )
    platform = _platform_with(text)
    planned = plan(_without_ours(findings, platform), platform.settings.adopted, _scenes(platform, findings))
    named = _named(platform, planned)
    if not dry_run:
        if not ENVIRONMENT.is_file() or text != ENVIRONMENT.read_text(encoding="utf-8"):
            write_text(ENVIRONMENT, text)
        _take_in(platform, findings, named, report)
    _say_adopted(findings, named, platform, report, dry_run=dry_run, as_json=as_json)
    if report.errors:
        raise typer.Exit(FAILED)
    if report.failed_checks or any(complaint.damaged for complaint in findings.complaints):
        raise typer.Exit(CHECK_FAILED)


def _platform_with(environment: str) -> Platform:
    """The platform with an `.env` of this text, whether or not it will be written."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ENVIRONMENT.name
        file.write_text(environment, encoding="utf-8")
        return load_platform(file)


def _without_ours(findings: "Findings", platform: Platform) -> "Findings":
    """Evaluated trees of the results root are this platform's own: their experiments evaluate them."""
    root = platform.settings.results_root
    for found in [each for each in findings.scores if each.folder.resolve().is_relative_to(root)]:
        findings.scores.remove(found)
        findings.complain(found.folder, "it lies in the results root", "left to the experiment that it belongs to")
    return findings


def _scenes(platform: Platform, findings: "Findings") -> dict[str, int | None]:
    """The scenes on disk that can be opened; those that were evaluated with the source camera that the registry names."""
    from thesis_assets.scenes.catalog import list_scenes
    from thesis_assets.scenes.scene import open_scene

    scenes: dict[str, int | None] = dict.fromkeys(list_scenes(platform.roots))
    for name in sorted({found.scene_name for found in findings.scores} & scenes.keys()):
        try:
            scene = open_scene(platform.roots, name)
            scenes[name] = None if scene.registry is None else scene.source_camera()
        except ThesisAssetsError as error:
            findings.complain(Path(error.file or name), error.problem, f"{name} is left out; mend it, then adopt again")
            del scenes[name]
    return scenes


def _named(platform: Platform, planned: "list[PlannedExperiment]") -> "dict[str, PlannedExperiment]":
    """Each under a name that is free, and that none before it has."""
    from thesis_assets.adoption.writing import free_name

    named: dict[str, PlannedExperiment] = {}
    for experiment in planned:

        def is_free(name: str, experiment: "PlannedExperiment" = experiment) -> bool:
            return name not in named and _is_free(platform, name, experiment)

        folder = platform.settings.experiments_dir
        named[free_name(folder, experiment.wanted_name, experiment.value, is_free)] = experiment
    return named


def _found_settings(findings: "Findings") -> dict[str, str]:
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


def _take_in(platform: Platform, findings: "Findings", named: "dict[str, PlannedExperiment]", report: Adoption) -> None:
    with dagster_instance(platform.settings) as instance:
        for exp_name, experiment in named.items():
            try:
                _write_adopted(platform, findings, experiment, exp_name)
                register(instance, plan_registration(platform, instance))
                _register_adopted(platform, instance, exp_name, experiment, report)
            except (ThesisAssetsError, dg.Failure) as error:
                said = error.description if isinstance(error, dg.Failure) else error
                report.errors.append(f"{experiment.wanted_name}: {said}")


def _write_adopted(platform: Platform, findings: "Findings", experiment: "PlannedExperiment", exp_name: str) -> None:
    """The experiment file, then the links."""
    from thesis_assets.adoption.writing import mirror, write_experiment

    complaints = [each for each in findings.complaints if each.place.is_relative_to(experiment.origin)]
    write_experiment(platform.settings.experiments_dir, exp_name, experiment.value, experiment.origin, complaints)
    if experiment.snapshot is not None:
        _adopt_snapshot(platform, findings, experiment, exp_name)
    for (run_name, scene_name), found in experiment.scores.items() if experiment.mirrored else ():
        linked = mirror(found, platform.settings.adopted.scores(exp_name, run_name, scene_name), findings)
        if linked:
            platform.echo(f"{exp_name}/{run_name}/{scene_name}: {linked} files linked")


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
    from thesis_assets.adoption.writing import adopt_run, adopt_snapshot, is_taken_in
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
        adopt_snapshot(experiment.snapshot, experiment.rows, spec, tree, platform.roots, platform.echo)
    for run in experiment.runs:
        if not is_taken_in(run, tree):
            adopt_run(run, tree, platform.echo)


def _register_adopted(
    platform: Platform, instance: dg.DagsterInstance, exp_name: str, experiment: "PlannedExperiment", report: Adoption
) -> None:
    from thesis_assets.definitions import build_defs
    from thesis_assets.operations.adopted_trees import evaluate_adopted, register_snapshot

    if experiment.snapshot is not None:
        origin = str(experiment.origin)
        report.failed_checks += register_snapshot(platform, instance, exp_name, origin, platform.echo)
    if experiment.scores:
        runs = sorted({run_name for run_name, _ in experiment.scores})
        definitions = build_defs(settings=platform.settings, echo=platform.echo)
        for outcome in evaluate_adopted(definitions, platform, instance, exp_name, runs):
            report.failed_checks += [f"{line} ({outcome.work.cells[0]})" for line in outcome.failed_checks]
            report.errors += [f"{outcome.work.cells[0]}: {line}" for line in outcome.errors]


def _say_adopted(
    findings: "Findings",
    named: "dict[str, PlannedExperiment]",
    platform: Platform,
    report: Adoption,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    rows = [_adopted_row(experiment) for experiment in named.values()]
    files = {exp_name: str(platform.settings.experiments_dir / f"{exp_name}.yaml") for exp_name in named}
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
                "experiments": files,
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
    print(f"settings in {ENVIRONMENT}: {', '.join(report.settings) or 'none'}")
    for exp_name, path in files.items():
        print(f"{exp_name}: {path}")
    if dry_run:
        print("nothing was written; without --dry-run it is")
        return
    for line in [*report.failed_checks, *report.errors]:
        print(f"FAILED {line}")
    print("next: `thesis-assets status`, `thesis-assets leaderboard`, `thesis-assets checks report`")


def _adopted_row(experiment: "PlannedExperiment") -> tuple[str, int, str, int, str]:
    runs = sorted({run.found.run_name for run in experiment.runs} | {run for run, _ in experiment.scores})
    scenes = {scene for _, scene in experiment.scores}
    return experiment.wanted_name, len(experiment.rows.rows), ", ".join(runs), len(scenes), str(experiment.origin)
