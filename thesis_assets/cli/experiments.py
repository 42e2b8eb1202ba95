"""The experiment files: written from an example or another experiment, registered, their data frozen or set aside."""

import time
from typing import Annotated

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import FAILED, dagster_instance, load_platform, print_json, print_table
from thesis_assets.defs.new_scenes import fork_for_late_scenes, late_scenes
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.ready_scenes import ReadyScenes
from thesis_assets.defs.registration import plan_registration, register, remove_withdrawn
from thesis_assets.experiments import ExperimentSpec

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
    """Show samples of scenes that the experiment no longer names.

    With --yes they are moved out of `samples/`: they go to `set_aside/` in the experiment's folder; nothing is deleted.
    """
    from thesis_assets.samples.snapshot import set_aside, unnamed_scenes

    platform = load_platform()
    scenes = platform.scene_names(platform.experiments.read(exp))
    tree = platform.difix(Cell(exp))
    found = {scene: len(samples) for scene, samples in unnamed_scenes(tree, scenes).items()}
    if yes:
        set_aside(tree, scenes)
    if as_json:
        print_json({"exp_name": exp, "moved": yes, "samples": found})
        return
    print_table("Samples of scenes that the experiment does not name", ("scene", "samples"), list(found.items()))
    if found and not yes:
        print("next: the same command with --yes moves them; then `thesis-assets run` collects and checks again")
