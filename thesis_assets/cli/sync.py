"""`thesis-assets sync`: experiment files to partition keys and pools."""

import time
from typing import Annotated

import typer

from thesis_assets.cli.console import FAILED, JsonOption, dagster_instance, load_platform, print_json, print_table
from thesis_assets.defs.new_scenes import fork_for_late_scenes, late_scenes
from thesis_assets.defs.ready_scenes import ReadyScenes
from thesis_assets.defs.registration import plan_registration, register, remove_withdrawn


def sync(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be registered; change nothing.")] = False,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove-withdrawn", help="Take keys away that no experiment file declares and that have no data on disk."
        ),
    ] = False,
    as_json: JsonOption = False,
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
