"""`thesis-assets rerun ...` and `publish`: make, open and share recordings."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from thesis_assets.cli.console import (
    WRONG_USE,
    JsonOption,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.defs.partitions import Cell

rerun_app = typer.Typer(no_args_is_help=True)

ExpOption = Annotated[str, typer.Option("--exp", help="The experiment.")]
RunOption = Annotated[str, typer.Option("--run", help="The run.")]
SceneOption = Annotated[str | None, typer.Option("--scene", help="Only this scene.")]


def _export(what: str, exp: str, run: str, scene: str | None, epochs: str, as_json: bool) -> None:
    from thesis_assets.evaluation.qualitative.evaluation import export_evaluation
    from thesis_assets.evaluation.qualitative.input_data import export_input_data
    from thesis_assets.layout import parse_epoch

    platform = load_platform()
    cell = Cell(exp, run_name=run)
    made: list[tuple[str, int, str]] = []
    for name, tree in platform.evaluation_trees(cell).items():
        if scene is not None and name != scene:
            continue
        if what in ("input-data", "all"):
            record = export_input_data(tree, run_name=run, scene_name=name)
            made.append((str(tree.input_data_recording), record.bytes, ", ".join(record.absent)))
        if what in ("evaluation", "all"):
            there = sorted(parse_epoch(path.name) for path in tree.evaluation_dir.glob("epoch_*"))
            wanted = there if epochs == "all" else there[-1:] if epochs == "latest" else [int(epochs)]
            for epoch in wanted:
                record = export_evaluation(tree, epoch, run_name=run, scene_name=name)
                made.append((str(tree.evaluation_recording(epoch)), record.bytes, ", ".join(record.absent)))
    if as_json:
        print_json([{"file": file, "bytes": size, "absent": absent} for file, size, absent in made])
    else:
        print_table(
            "Recordings", ("file", "size", "absent"), [(f, human_bytes(size), absent) for f, size, absent in made]
        )
        print("next: `rerun <file>`")


@rerun_app.command("export-input-data")
def export_input_data_command(
    exp: ExpOption, run: RunOption, scene: SceneOption = None, as_json: JsonOption = False
) -> None:
    """Record the input data of a run's evaluated scenes."""
    _export("input-data", exp, run, scene, "all", as_json)


EpochsOption = Annotated[str, typer.Option("--epochs", help="all, latest, or a number.")]


@rerun_app.command("export-evaluation")
def export_evaluation_command(
    exp: ExpOption, run: RunOption, scene: SceneOption = None, epochs: EpochsOption = "all", as_json: JsonOption = False
) -> None:
    """Record the evaluation epochs of a run's scenes, one file an epoch."""
    _export("evaluation", exp, run, scene, epochs, as_json)


@rerun_app.command("export-all")
def export_all_command(
    exp: ExpOption, run: RunOption, scene: SceneOption = None, epochs: EpochsOption = "all", as_json: JsonOption = False
) -> None:
    """Record the input data and the evaluation epochs."""
    _export("all", exp, run, scene, epochs, as_json)


@rerun_app.command("open")
def open_recording(path: Annotated[Path, typer.Argument(help="A recording (.rrd).", exists=True)]) -> None:
    """Open a recording in the Rerun viewer."""
    subprocess.run([str(Path(sys.executable).with_name("rerun")), str(path)], check=True)


def publish(
    exp: ExpOption,
    run: RunOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; needs no token.")] = False,
    repo: Annotated[str | None, typer.Option("--repo", help="Dataset repo, in place of HF_RERUN_REPO_ID.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Plan the upload of a run's recordings to a Hub dataset repo."""
    from thesis_assets.publishing.plan import plan_publication
    from thesis_assets.publishing.plan import publish as send

    platform = load_platform()
    repo_id = repo or platform.settings.hf_rerun_repo_id
    if repo_id is None:
        progress_line("error: no repo: give --repo or set HF_RERUN_REPO_ID")
        raise typer.Exit(WRONG_USE)
    cell = Cell(exp, run_name=run)
    plan = plan_publication(list(platform.evaluation_trees(cell).values()), repo_id)
    if as_json:
        print_json(dataclasses.asdict(plan) | {"commands": plan.commands})
    else:
        rows = [(item.path_in_repo, human_bytes(item.bytes)) for item in plan.files]
        print_table(f"For {repo_id}", ("path in the repo", "size"), rows)
        for command in plan.commands:
            print(command)
    for warning in plan.warnings:
        print(f"warning: {warning}")
    send(plan, dry_run=dry_run)
