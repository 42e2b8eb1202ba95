"""`thesis-assets fork`: a new experiment from one whose data must stay as it is."""

from typing import Annotated

import typer

from thesis_assets.cli.console import JsonOption, load_platform, print_json
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.experiments import ExperimentSpec


def fork(
    exp: Annotated[str, typer.Option("--exp", help="The experiment to fork.")],
    name: Annotated[str, typer.Option("--as", help="The name of the new experiment; there must be no file of it yet.")],
    as_json: JsonOption = False,
) -> None:
    """Write an experiment's file once more, under another name.

    Its run links the samples that both have in common and renders only what is new.
    """
    from thesis_assets.experiments.fork import fork_experiment

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
    from thesis_assets.samples.shard_identity import shard_unit
    from thesis_assets.samples.shared_shards import has_equal_shard
    from thesis_assets.scenes.matching import group_id

    tree = platform.difix(Cell(spec.exp_name))
    shared: list[str] = []
    new: list[str] = []
    for scene_name in platform.scene_names(spec):
        group = group_id(scene_name, spec.split.group_rules)
        unit = shard_unit(tree, platform.roots, scene_name, spec.generation, group, device=platform.device)
        (shared if has_equal_shard(tree, unit) else new).append(scene_name)
    return shared, new
