"""`thesis-assets refine` and `checkpoint verify`: use a checkpoint on files, and look whether a run's are whole."""

from pathlib import Path
from typing import Annotated

import typer

from thesis_assets.cli.console import CHECK_FAILED, JsonOption, human_bytes, load_platform, print_json, print_table
from thesis_assets.defs.partitions import Cell
from thesis_assets.errors import InvalidFile

checkpoint_app = typer.Typer(no_args_is_help=True)


@checkpoint_app.callback()
def checkpoint() -> None:
    """Look after checkpoints."""


def refine(
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="A model_<step>.pkl.", exists=True, dir_okay=False)],
    image: Annotated[Path, typer.Option("--image", help="The imperfect render.", exists=True, dir_okay=False)],
    ref: Annotated[Path, typer.Option("--ref", help="The reference view.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="Where the refined image goes (PNG).")],
    as_json: JsonOption = False,
) -> None:
    """Refine one render by a checkpoint, at its own size."""
    from thesis_assets.tuning.refine import refine_file

    refine_file(checkpoint, image, ref, out, load_platform().device)
    if as_json:
        print_json({"out": str(out), "bytes": out.stat().st_size})
    else:
        print(f"{out}: {human_bytes(out.stat().st_size)}")


@checkpoint_app.command("verify")
def verify(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    run: Annotated[str, typer.Option("--run", help="The run.")],
    as_json: JsonOption = False,
) -> None:
    """Verify every checkpoint of a run: digest, loading without unpickling, finiteness. Exit code 3 where one is not whole."""
    from thesis_assets.tuning.checkpoints import list_checkpoints, verify_checkpoint

    platform = load_platform()
    cell = Cell(exp, run_name=run)
    platform.run_spec(cell)
    tree = platform.difix(cell).tuning_run(run)
    rows: list[dict[str, object]] = []
    for step in list_checkpoints(tree):
        try:
            info = verify_checkpoint(tree, step)
        except InvalidFile as error:
            rows.append({"step": step, "whole": False, "found": " ".join(str(error).split())})
        else:
            rows.append({"step": step, "whole": True, "found": f"{human_bytes(info.bytes)}, sha256 {info.sha256[:12]}"})
    if as_json:
        print_json(rows)
    else:
        print_table(f"Checkpoints of {cell}", ("step", "whole", "found"), [tuple(row.values()) for row in rows])
    if not rows or not all(row["whole"] for row in rows):
        raise typer.Exit(CHECK_FAILED)
