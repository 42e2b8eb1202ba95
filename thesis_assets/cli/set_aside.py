"""`thesis-assets set-aside`: samples of scenes that an experiment no longer names, shown, and moved out on request."""

from typing import Annotated

import typer

from thesis_assets.cli.console import JsonOption, load_platform, print_json, print_table
from thesis_assets.defs.partitions import Cell


def set_aside_command(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    yes: Annotated[bool, typer.Option("--yes", help="Move the samples; without it they are only shown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show samples of scenes that the experiment no longer names.

    With --yes they are moved out of `samples/`: they go to `set_aside/` in the experiment's folder; nothing is deleted.
    """
    from thesis_assets.samples.set_aside import set_aside, unnamed_scenes

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
