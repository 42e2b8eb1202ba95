"""`thesis-assets experiment`: an experiment file to start from."""

from typing import Annotated

import typer

from thesis_assets.cli.console import JsonOption, load_platform, print_json

ANNOTATED = "hi4d_v1"

experiment_app = typer.Typer(no_args_is_help=True)


@experiment_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The experiment's name: its file, its `exp_name`, its folder of data.")],
    example: Annotated[
        str, typer.Option("--from", help="The example that is copied; the default one explains every key.")
    ] = ANNOTATED,
    as_json: JsonOption = False,
) -> None:
    """Write an experiment file from an example.

    With its comments, in which every key is explained. A file that is there is never written over.
    """
    from thesis_assets.experiments.fork import examples, fork_experiment

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
