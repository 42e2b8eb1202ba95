"""`thesis-assets compare`: one offline page of two runs, frame by frame, worst first."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets import __version__
from thesis_assets.cli.console import WRONG_USE, JsonOption, human_bytes, load_platform, print_json, progress_line
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.layout import EvaluationTree
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.storage import sha256_file, write_text

if TYPE_CHECKING:
    from thesis_assets.evaluation.compare_pictures import Pictures
    from thesis_assets.evaluation.compared_runs import ComparedRuns

UNREFINED = "unrefined"


def compare(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    run: Annotated[str, typer.Option("--run", help="The run that is looked at.")],
    against: Annotated[
        str, typer.Option("--against", help="A run of the experiment, <exp>/<run>, or `unrefined`: its own renders.")
    ] = UNREFINED,
    epoch: Annotated[int | None, typer.Option("--epoch", help="Default: the last one that both have.")] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Of pictures in the page.")] = 40,
    max_frames: Annotated[int, typer.Option("--max-frames", min=1, help="Frames with pictures.")] = 240,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a page that compares two runs frame by frame.

    One HTML file that needs no network: baseline, tuned and truth under a slider, worst first, and where both come from.
    """
    from thesis_assets.evaluation.compare_page import PageFacts, render_compare_page
    from thesis_assets.evaluation.compare_pictures import embed_pictures
    from thesis_assets.evaluation.compared_runs import compare_runs

    platform = load_platform()
    tuned = Cell(exp, run_name=run)
    platform.run_spec(tuned)
    other = _other(platform, exp, run, against)
    trees = _trees(platform, tuned)
    baseline = None if other is None else ((other.exp_name, other.run_name), _trees(platform, other))
    compared = compare_runs(((exp, run), trees), baseline, epoch)
    progress_line(f"{len(compared.frames)} frames of {len(compared.scenes)} scenes at epoch {compared.epoch}")
    pictures = embed_pictures(
        compared.frames, max_frames=max_frames, max_bytes=max_mb * 1_000_000, on_progress=progress_line
    )
    lineage = [_lineage(platform, cell, compared.scenes, compared.epoch) for cell in (tuned, other) if cell is not None]
    facts = PageFacts(time.strftime("%Y-%m-%d %H:%M %Z"), __version__, platform.settings.results_root)
    page = platform.settings.reports.comparison(exp, run, compared.baseline_name)
    write_text(page, render_compare_page(compared, pictures, lineage, facts))
    _say(page, compared, pictures, as_json=as_json)
    if open_page:
        typer.launch(page.as_uri())


def _other(platform: Platform, exp: str, run: str, against: str) -> Cell | None:
    """The cell that is compared with; None for the run's own renders."""
    if against == UNREFINED:
        return None
    named, _, name = against.rpartition("/")
    other = Cell(named or exp, run_name=name)
    if other == Cell(exp, run_name=run):
        progress_line("error: a run is not compared with itself; name another run, or `unrefined`")
        raise typer.Exit(WRONG_USE)
    platform.run_spec(other)
    return other


def _trees(platform: Platform, cell: Cell) -> dict[str, EvaluationTree]:
    return {name: tree for name, tree in platform.evaluation_trees(cell).items() if tree.manifest.is_file()}


def _lineage(platform: Platform, cell: Cell, scenes: list[str], epoch: int) -> LineageLink:
    """The whole chain below the first scene; the other scenes were made by the same checkpoint, which is not read again."""
    from thesis_assets.evaluation.lineage import evaluation_lineage

    trees = platform.evaluation_trees(cell)
    below = []
    for place, scene in enumerate(scenes):
        tree = trees[scene]
        if place == 0:
            chain = (tree, platform.difix(cell), cell.run_name, platform.roots)
            below.append(evaluation_lineage(*chain, epochs=[epoch], tasks=["nvs"]))
            continue
        name = f"{cell.exp_name}/{cell.run_name}/{scene}"
        note = "by the same checkpoint"
        below.append(linked("evaluation", name, path=tree.manifest, digest=sha256_file(tree.manifest), note=note))
    return linked("run", f"{cell.exp_name}/{cell.run_name}", note=f"epoch {epoch}", verified=False, made_from=below)


def _say(page: Path, compared: "ComparedRuns", pictures: "Pictures", *, as_json: bool) -> None:
    found = next(row for row in compared.differences if (row.task, row.metric) == ("nvs", compared.metric))
    if as_json:
        print_json(
            {
                "page": str(page),
                "difference": found.model_dump(mode="json"),
                "frames": len(compared.frames),
                "frames_with_pictures": len(pictures.by_frame),
                "left_out": compared.left_out,
            }
        )
        return
    for scene, reason in compared.left_out.items():
        print(f"not compared: {scene}: {reason}")
    if found.difference is not None:
        print(f"{found.metric} {found.difference:+.3f} dB against {compared.baseline_name}, {found.n_scenes} scenes")
    shown = f"{len(pictures.by_frame)} of {len(compared.frames)} frames have their pictures"
    print(f"{shown} ({human_bytes(pictures.n_bytes)}): {page}")
