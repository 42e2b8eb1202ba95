"""`thesis-assets rerun ...` and `publish`: make, open and share recordings."""

import dataclasses
import subprocess
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


def _export(parts: tuple[str, ...], exp: str, run: str, scene: str | None, epochs: str, as_json: bool) -> None:
    from thesis_assets.evaluation.qualitative.export_command import export_recordings
    from thesis_assets.schemas.evaluation import RecordingDigest

    platform = load_platform()
    made: dict[Path, RecordingDigest] = {}
    for name, tree in platform.evaluation_trees(Cell(exp, run_name=run)).items():
        if scene is None or name == scene:
            made |= export_recordings(
                tree, parts, epochs=epochs, run_name=run, scene_name=name, on_progress=platform.echo
            )
    if as_json:
        print_json([{"file": str(file), **digest.model_dump(mode="json")} for file, digest in made.items()])
    else:
        rows = [(file, human_bytes(digest.bytes), ", ".join(digest.absent)) for file, digest in made.items()]
        print_table("Recordings", ("file", "size", "absent"), rows)
        print("next: `thesis-assets rerun open <file>`")


@rerun_app.command("export-input-data")
def export_input_data_command(
    exp: ExpOption, run: RunOption, scene: SceneOption = None, as_json: JsonOption = False
) -> None:
    """Record the input data of a run's evaluated scenes."""
    _export(("input_data",), exp, run, scene, "all", as_json)


EpochsOption = Annotated[str, typer.Option("--epochs", help="all, latest, or numbers with commas between.")]


@rerun_app.command("export-evaluation")
def export_evaluation_command(
    exp: ExpOption, run: RunOption, scene: SceneOption = None, epochs: EpochsOption = "all", as_json: JsonOption = False
) -> None:
    """Record the evaluation epochs of a run's scenes, one file an epoch."""
    _export(("evaluation",), exp, run, scene, epochs, as_json)


@rerun_app.command("export-all")
def export_all_command(
    exp: ExpOption, run: RunOption, scene: SceneOption = None, epochs: EpochsOption = "all", as_json: JsonOption = False
) -> None:
    """Record the input data and the evaluation epochs."""
    _export(("input_data", "evaluation"), exp, run, scene, epochs, as_json)


@rerun_app.command("open")
def open_recording(path: Annotated[Path, typer.Argument(help="A recording (.rrd).", exists=True)]) -> None:
    """Open a recording in the Rerun viewer."""
    from thesis_assets.evaluation.qualitative.verification import rerun_binary

    subprocess.run([str(rerun_binary()), str(path)], check=True)


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
