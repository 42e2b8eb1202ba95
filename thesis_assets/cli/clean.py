"""`thesis-assets clean`: what killed processes left behind, shown, and removed on request."""

import time
from typing import Annotated

import typer

from thesis_assets.cli.console import JsonOption, dagster_instance, human_bytes, load_platform, print_json, print_table
from thesis_assets.defs.dead_runs import close_dead_runs, dead_runs
from thesis_assets.defs.leftovers import REST_SECONDS, leftovers, remove

SHOWN = 30


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only shown.")] = False,
    rest: Annotated[
        float,
        typer.Option("--rest-seconds", min=0, help="Leave temporary files alone that changed within so many seconds."),
    ] = REST_SECONDS,
    as_json: JsonOption = False,
) -> None:
    """Show what killed processes left behind; --yes removes it.

    Temporary files and free locks are removed, runs that were left open are closed. What a process of this machine holds open stays, and so does what changed in the last hour: it may be another machine's.
    """
    platform = load_platform()
    found = leftovers(platform.settings, time.time(), rest_seconds=rest)
    with dagster_instance(platform.settings) as instance:
        runs = close_dead_runs(instance) if yes else [run.run_id for run in dead_runs(instance)]
    taken = [each for each in found if yes and not remove(each)]
    size = sum(each.bytes for each in found if each not in taken)
    if as_json:
        rows = [{"path": str(each.path), "kind": each.kind, "bytes": each.bytes} for each in found if each not in taken]
        print_json({"removed": yes, "bytes": size, "found": rows, "runs": runs})
        return
    table = [(each.kind, each.path, human_bytes(each.bytes), f"{each.rested / 3600:.1f} h") for each in found[:SHOWN]]
    print_table("Left behind", ("kind", "path", "size", "at rest for"), table)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")
    word = "removed" if yes else "can go"
    closed = "closed" if yes else "can be closed"
    print(f"{len(found) - len(taken)} {word}, {human_bytes(size)}; {len(runs)} runs of killed command lines {closed}")
    if (found or runs) and not yes:
        print("next: the same command with --yes")
