"""`thesis-assets compare`: one offline page of two runs, frame by frame, worst first."""

from typing import Annotated

import typer

from thesis_assets.cli.console import WRONG_USE, JsonOption, human_bytes, load_platform, print_json, progress_line
from thesis_assets.defs.compare_pages import MAX_FRAMES, UNREFINED, ComparePages, Comparison, MadePage
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform


def compare(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    run: Annotated[str, typer.Option("--run", help="The run that is looked at.")],
    against: Annotated[
        str, typer.Option("--against", help="A run of the experiment, <exp>/<run>, or `unrefined`: its own renders.")
    ] = UNREFINED,
    epoch: Annotated[
        int | None,
        typer.Option("--epoch", help="Default: the last one that both have. Another one is a page of its own."),
    ] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Of pictures in the page.")] = 40,
    max_frames: Annotated[int, typer.Option("--max-frames", min=1, help="Frames with pictures.")] = MAX_FRAMES,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write one offline HTML page: baseline, tuned and truth of every frame under a slider, worst first, and where both come from."""
    platform = load_platform()
    tuned = Cell(exp, run_name=run)
    platform.run_spec(tuned)
    comparison = Comparison(tuned, _other(platform, exp, run, against), epoch)
    made = ComparePages(platform, progress_line).make(comparison, max_bytes=max_mb * 1_000_000, max_frames=max_frames)
    page = platform.settings.reports.comparison(*comparison.place)
    _say(str(page), made, as_json=as_json)
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


def _say(page: str, made: MadePage, *, as_json: bool) -> None:
    compared, pictures = made.compared, made.pictures
    found = next(row for row in compared.differences if (row.task, row.metric) == ("nvs", compared.metric))
    if as_json:
        print_json(
            {
                "page": page,
                "difference": found.model_dump(mode="json"),
                "headline": made.record.headline,
                "frames": len(compared.frames),
                "frames_with_pictures": len(pictures.by_frame),
                "left_out": compared.left_out,
                "not_for_sharing": made.record.not_for_sharing,
            }
        )
        return
    for scene, reason in compared.left_out.items():
        print(f"not compared: {scene}: {reason}")
    print(f"{made.record.headline}; against {compared.baseline_name}, scenes: {len(compared.scenes)}")
    for dataset in made.record.not_for_sharing:
        print(f"not to be passed on: the page holds images of {dataset}")
    shown = f"{len(pictures.by_frame)} of {len(compared.frames)} frames have their pictures"
    print(f"{shown} ({human_bytes(pictures.n_bytes)}): {page}")
