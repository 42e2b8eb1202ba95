"""The checkpoints of a run: use one on files, see whether they are whole, give one away, remove those that nothing points to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import CHECK_FAILED, human_bytes, load_platform, print_json, print_table, wrong_use
from thesis_assets.errors import InvalidFile
from thesis_assets.graph.cells import Cell

if TYPE_CHECKING:
    from thesis_assets.layout import TuningRunTree
    from thesis_assets.tuning.run_record import PlannedCheckpoint

    Rows = list[tuple[str, PlannedCheckpoint]]


checkpoint_app = typer.Typer(no_args_is_help=True)

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="The base model of a DiFix checkpoint (a directory or a Hub id), where it does not say."
    ),
]


def refine(
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="A model_<step>.pkl.", exists=True, dir_okay=False)],
    image: Annotated[Path, typer.Option("--image", help="The imperfect render, or a folder of them.", exists=True)],
    ref: Annotated[
        Path, typer.Option("--ref", help="The reference view, or a folder with one of each render's name.", exists=True)
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the refined image (PNG), or the folder of them, goes.")],
    model: ModelOption = None,
    as_json: options.AsJson = False,
) -> None:
    """Refine one render, or a folder of them, by a checkpoint.

    At their own size.
    """
    from thesis_assets.tuning.refine import refine_file, refine_folder

    device = load_platform().local_device
    if image.is_dir():
        written = refine_folder(checkpoint, image, ref, out, device, model=model)
    elif ref.is_dir():
        raise InvalidFile("one render needs one reference", file=ref, found="a folder", wanted="an image file")
    else:
        refine_file(checkpoint, image, ref, out, device, model=model)
        written = [out]
    size = sum(path.stat().st_size for path in written)
    if as_json:
        print_json({"out": str(out), "bytes": size, "images": len(written)})
    else:
        print(f"{out}: {human_bytes(size)}" + (f", {len(written)} images" if image.is_dir() else ""))


@checkpoint_app.command("verify")
def verify(
    exp: options.Exp,
    run: Annotated[str, typer.Option("--run", help="The run, or a sweep.")],
    as_json: options.AsJson = False,
) -> None:
    """Verify every checkpoint of a run.

    Its digest, that it loads without unpickling, that it is finite. Exit code 3 where one is not whole.
    """
    platform = load_platform()
    names = platform.runs_named(exp, [run])
    for name in names:
        platform.run_spec(Cell(exp, run_name=name))
    rows = [row for name in names for row in _verified(platform.difix(Cell(exp)).tuning_run(name), name)]
    if as_json:
        print_json(rows)
    else:
        table = [tuple(row.values()) for row in rows]
        print_table(f"Checkpoints of {exp}/{run}", ("run", "step", "whole", "found"), table)
    if not all(row["whole"] for row in rows) or {row["run"] for row in rows} != {*names}:
        raise typer.Exit(CHECK_FAILED)


def _verified(tree: TuningRunTree, name: str) -> Iterator[dict[str, object]]:
    from thesis_assets.tuning.checkpoints import list_checkpoints, verify_checkpoint

    for step in list_checkpoints(tree):
        try:
            info = verify_checkpoint(tree, step)
        except InvalidFile as error:
            whole, found = False, " ".join(str(error).split())
        else:
            whole, found = True, f"{human_bytes(info.bytes)}, sha256 {info.sha256[:12]}"
        yield {"run": name, "step": step, "whole": whole, "found": found}


@checkpoint_app.command("convert")
def convert(
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint", help="A DiFix model_<step>.pkl; or a diffusers directory, for the way back.", exists=True
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The directory; or for the way back the .pkl, to be written.")],
    model: ModelOption = None,
    as_json: options.AsJson = False,
) -> None:
    """Convert a DiFix checkpoint to diffusers, or back.

    To a directory that a DifixPipeline loads, or from such a directory to a checkpoint.
    """
    from thesis_assets.tuning.difix.checkpoint import to_checkpoint, to_directory
    from thesis_assets.tuning.selection import directory_override

    written = to_checkpoint(checkpoint, out) if checkpoint.is_dir() else to_directory(checkpoint, out, model=model)
    files = [path for path in written.rglob("*") if path.is_file()] if written.is_dir() else [written]
    size = sum(path.stat().st_size for path in files)
    if as_json:
        print_json({"out": str(written), "bytes": size, "files": len(files)})
    else:
        print(f"{written}: {human_bytes(size)}" + (f" in {len(files)} files" if written.is_dir() else ""))
        if written.is_dir():
            print(f"for the 3DGS pipeline: {directory_override(str(written.absolute()))}")


# --- prune: the checkpoints that nothing points to -------------------------------------------------------------------


def prune_command(
    exp: options.Exp,
    run: Annotated[
        str | None, typer.Option("--run", help="The run, or a sweep; without it every run with checkpoints.")
    ] = None,
    keep: Annotated[list[int] | None, typer.Option("--keep", help="Keep this step too; may be repeated.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed, as without --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it they are only shown.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the checkpoints that nothing needs; --yes removes them.

    Needed are those of an evaluation epoch or a selection. Never removed: the last one, the selected one, and every step that an evaluation epoch maps to.
    """
    from thesis_assets.tuning.checkpoints import list_checkpoints
    from thesis_assets.tuning.run_record import plan_pruning, prune

    if dry_run and yes:
        wrong_use("--dry-run and --yes exclude each other")
    platform = load_platform()
    spec, tree = platform.experiments.read(exp), platform.difix(Cell(exp))
    names = spec.runs if run is None else platform.runs_named(exp, [run])
    named = {
        name: platform.run_spec(Cell(exp, run_name=name))
        for name in names
        if name == run or list_checkpoints(tree.tuning_run(name))
    }
    if not named:
        raise InvalidFile("no run of the experiment has a checkpoint", file=tree.tuning_runs_dir)
    rows: Rows = []
    # All plans before the first removal: a run whose rule has not chosen yet stops the command with nothing removed.
    for make in (plan_pruning, prune) if yes else (plan_pruning,):
        rows = [
            (name, planned)
            for name, each in named.items()
            for planned in make(tree, name, each, epoch_steps=spec.evaluation.epoch_steps(each), keep=keep or ())
        ]
    _print(exp, rows, removed=yes, as_json=as_json)


def _print(exp: str, rows: Rows, *, removed: bool, as_json: bool) -> None:
    gone = [planned for _, planned in rows if not planned.kept_for]
    size = sum(planned.bytes for planned in gone)
    if as_json:
        checkpoints = [{"run": name, **dataclasses.asdict(planned)} for name, planned in rows]
        print_json({"exp_name": exp, "removed": removed, "bytes": size, "checkpoints": checkpoints})
        return
    word = "removed" if removed else "would be removed"
    table = [
        (name, planned.step, human_bytes(planned.bytes), ", ".join(planned.kept_for) or word) for name, planned in rows
    ]
    print_table(f"Checkpoints of {exp}", ("run", "step", "size", "kept for"), table)
    print(f"{len(gone)} of {len(rows)} {word}, {human_bytes(size)}")
    if gone and not removed:
        print("next: the same command with --yes removes them")
