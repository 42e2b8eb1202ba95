"""`thesis-assets rerun ...` and `publish`: make recordings, look at them, ask all of them at once, send them to a Hub dataset repo."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import (
    CHECK_FAILED,
    dagster_instance,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
    wrong_use,
)
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import TASKS, EvaluationTree

if TYPE_CHECKING:
    from thesis_assets.publishing.plan import PublicationPlan
    from thesis_assets.schemas.recordings import PublicationRecord


rerun_app = typer.Typer(no_args_is_help=True)

SceneOption = Annotated[str | None, typer.Option("--scene", help="Only this scene.")]
ExpDirOption = Annotated[
    Path | None, typer.Option("--exp-dir", help="A tree's own folder, in place of --exp and --run.")
]
EpochsOption = Annotated[str, typer.Option("--epochs", help="all, latest, or numbers with commas between.")]
TasksOption = Annotated[str, typer.Option("--tasks", help=f"Some of {','.join(TASKS)}.")]
MaxFramesOption = Annotated[
    int, typer.Option("--max-frames-per-camera", min=0, help="Only the first so many frames of each camera; 0 = all.")
]
LosslessOption = Annotated[bool, typer.Option("--lossless", help="Record PNG pictures as they are; else as JPEG.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Write recordings again that are current.")]
FilesArgument = Annotated[list[Path] | None, typer.Argument(help="Recordings (.rrd); or give --exp and --run.")]


@rerun_app.command("export-input-data")
def export_input_data_command(
    exp: options.ExpOrNone = None,
    run: options.RunOrNone = None,
    scene: SceneOption = None,
    exp_dir: ExpDirOption = None,
    max_frames: MaxFramesOption = 0,
    lossless: LosslessOption = False,
    force: ForceOption = False,
    as_json: options.AsJson = False,
) -> None:
    """Record the input data of a run's evaluated scenes."""
    export = _exporter("input_data")
    export(exp, run, scene, exp_dir, "all", ",".join(TASKS), max_frames, lossless, force, as_json)


def _exporter(*parts: str) -> Callable[..., None]:
    def export(
        exp: options.ExpOrNone = None,
        run: options.RunOrNone = None,
        scene: SceneOption = None,
        exp_dir: ExpDirOption = None,
        epochs: EpochsOption = "all",
        tasks: TasksOption = ",".join(TASKS),
        max_frames: MaxFramesOption = 0,
        lossless: LosslessOption = False,
        force: ForceOption = False,
        as_json: options.AsJson = False,
    ) -> None:
        from thesis_assets.recordings.exports import export_recordings, is_epochs
        from thesis_assets.recordings.tracks import ExportOptions
        from thesis_assets.schemas.recordings import RecordingFacts

        platform = load_platform()
        trees = _trees(platform, exp, run, scene, exp_dir)
        names = tuple(tasks.split(","))
        if not set(names) <= set(TASKS) or not is_epochs(epochs):
            wrong_use(f"--tasks are some of {','.join(TASKS)}; --epochs is all, latest, or numbers such as 0,30")
        made: dict[Path, RecordingFacts] = {}
        for scene_name, (run_name, tree) in trees.items():
            made |= export_recordings(
                tree,
                parts,
                epochs=epochs,
                tasks=names,
                run_name=run_name,
                scene_name=scene_name,
                options=ExportOptions(max_frames, lossless),
                split_bytes=platform.settings.split_recording_mb * 1_000_000,
                force=force,
                on_progress=platform.echo,
            )
        if as_json:
            print_json([{"file": str(file), **facts.model_dump(mode="json")} for file, facts in made.items()])
        else:
            rows = [(file, human_bytes(facts.bytes), "; ".join(facts.absent)) for file, facts in made.items()]
            print_table("Recordings", ("file", "size", "absent"), rows)
            print("next: `thesis-assets rerun open <file>`, or pictures of them: `thesis-assets rerun preview <file>`")

    return export


rerun_app.command("export-evaluation", help="Record a run's evaluation epochs, one file an epoch.")(
    _exporter("evaluation")
)
rerun_app.command("export-all", help="Record the input data and the evaluation epochs.")(
    _exporter("input_data", "evaluation")
)


@rerun_app.command("open")
def open_recordings(
    files: FilesArgument = None,
    exp: options.ExpOrNone = None,
    run: options.RunOrNone = None,
    scene: SceneOption = None,
    web: Annotated[bool, typer.Option("--web", help="Show them in a browser: for machines without a screen.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port of the page of --web; 0 = a free one.")
    ] = 9090,
) -> None:
    """Open recordings in the Rerun viewer.

    Several keep their own layouts.
    """
    from thesis_assets.recordings.verification import rerun_binary

    chosen = _recordings(load_platform(), files, exp, run, scene)
    if not web and not _has_screen():
        raise ThesisAssetsError(
            "there is no screen here to open the viewer on",
            key="DISPLAY",
            found="not set",
            remedy="add --web and open the page through a tunnel, or copy the file to where there is one",
        )
    # By itself the viewer listens on every interface, and hands its recordings to whatever viewer has its port already: on a
    # shared machine that of somebody else.
    private = ["--bind", "127.0.0.1", "--port", "auto"]
    command = [str(rerun_binary()), *private, *(["--web-viewer", "--web-viewer-port", str(port)] if web else [])]
    if web:
        # Without its `?url=` the page stands empty; the port in there is the viewer's own choice, and told by it alone.
        address = f" (http://127.0.0.1:{port}?url=...)" if port else ""
        progress_line(f"open in a browser the whole address that follows, after `connect at`{address}; Ctrl-C ends it")
    raise typer.Exit(subprocess.run([*command, *map(str, chosen)], check=False).returncode)


def _has_screen() -> bool:
    return sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET")
    )


@rerun_app.command("preview")
def preview_command(
    files: FilesArgument = None,
    exp: options.ExpOrNone = None,
    run: options.RunOrNone = None,
    scene: SceneOption = None,
    force: ForceOption = False,
    as_json: options.AsJson = False,
) -> None:
    """Make pictures of recordings, without a screen.

    They lie beside the recordings. Exit code 3 where a view reports a fault.
    """
    from thesis_assets.recordings.previews import make_previews

    chosen = _recordings(load_platform(), files, exp, run, scene)
    records = make_previews(chosen, force=force, on_progress=progress_line)
    if as_json:
        print_json([{"recording": str(path), **record.model_dump(mode="json")} for path, record in records.items()])
    else:
        rows = [
            (EvaluationTree.recording_previews(path), len(record.pictures), "; ".join(record.faults) or "none")
            for path, record in records.items()
        ]
        print_table("Previews", ("folder", "pictures", "faults"), rows)
    if any(record.faults for record in records.values()):
        raise typer.Exit(CHECK_FAILED)


@rerun_app.command("catalog")
def catalog_command(
    root: Annotated[Path | None, typer.Option("--root", help="Default: the results root.")] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 = a free one.")] = 51234,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Print this metric of all recordings, then end.")
    ] = None,
    camera: Annotated[int | None, typer.Option("--camera", help="With --metric: only this camera.")] = None,
    task: Annotated[str, typer.Option("--task", help="With --metric: of this task.")] = "nvs",
    as_json: options.AsJson = False,
) -> None:
    """Serve all recordings of a results root on loopback.

    For viewers, and for queries over epochs and runs.
    """
    from thesis_assets.recordings.catalog import find_recordings, read_metric, serve_catalog

    platform = load_platform()
    triplets = [
        platform.difix(cell).tuning_run(cell.run_name).triplet_recording
        for cell in (platform.run_cells() if root is None else [])
    ]
    recordings = find_recordings(root or platform.settings.results_root, triplets, on_note=progress_line)
    with serve_catalog(recordings, port=0 if metric else port) as url:
        if metric is not None:
            values = read_metric(url, metric, camera=camera, task=task)
            _print_values(metric, [dict(value.__dict__) for value in values], as_json)
            return
        counts = {name: len(paths) for name, paths in recordings.items()}
        if as_json:
            print_json({"url": url, "datasets": counts})
        else:
            print_table("Catalog", ("dataset", "recordings"), list(counts.items()))
            print(
                f"next: `rerun {url}`, or in Python: read_metric({url!r}, 'psnr', camera=16); Ctrl-C ends it",
                flush=True,
            )
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            progress_line("the catalog has ended")


def _print_values(metric: str, rows: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    names = ("exp_name", "run_name", "scene_name", "epoch", "camera")
    values: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        key = tuple("" if row[name] is None else row[name] for name in names)
        values.setdefault(key, []).append(float(str(row["value"])))
    table = [(*key, len(found), f"{sum(found) / len(found):.4f}") for key, found in values.items()]
    print_table(f"{metric}: means over frames", (*names, "frames", "mean"), table)
    print("`--json` has each frame's value")


def _trees(
    platform: Platform, exp: str | None, run: str | None, scene: str | None, exp_dir: Path | None
) -> dict[str | None, tuple[str | None, EvaluationTree]]:
    """Scene to its run and tree; of a folder, both names come from the tree itself."""
    if exp_dir is not None and exp is None and run is None and scene is None:
        folder = exp_dir.resolve()
        return {None: (None, EvaluationTree(folder.parent, folder.name))}
    if exp_dir is not None or exp is None or run is None:
        wrong_use("give --exp and --run, or --exp-dir alone")
    platform.run_spec(Cell(exp, run_name=run))
    trees = platform.evaluation_trees(Cell(exp, run_name=run))
    if scene is not None and scene not in trees:
        wrong_use(f"{scene} is not evaluated; evaluated are: {', '.join(trees) or 'none'}")
    return {name: (run, tree) for name, tree in trees.items() if scene in (None, name)}


def _recordings(
    platform: Platform, files: list[Path] | None, exp: str | None, run: str | None, scene: str | None
) -> list[Path]:
    """The named files, else all recordings of a run."""
    from thesis_assets.recordings.checks import recordings_of

    if files:
        missing = [str(path) for path in files if not path.is_file()]
        if missing or exp or run or scene:
            wrong_use(f"no such file: {', '.join(missing)}" if missing else "give files, or --exp and --run")
        return files
    trees = _trees(platform, exp, run, scene, None)
    found = [path for _, tree in trees.values() for path in recordings_of(tree)]
    triplets = platform.difix(Cell(str(exp), run_name=str(run))).tuning_run(str(run)).triplet_recording
    found += [triplets] if scene is None and triplets.is_file() else []
    if not found:
        evaluated = any(tree.manifest.is_file() for _, tree in trees.values())
        cell = f"--exp {exp} --run {run}" + (f" --scene {scene}" if scene and evaluated else "")
        raise InvalidFile(
            "there are no recordings yet",
            file=platform.settings.results_root / str(run),
            found="an evaluation without recordings" if evaluated else "nothing is evaluated",
            remedy=f"`thesis-assets {'rerun export-all' if evaluated else 'run'} {cell}` makes them",
        )
    return found


# --- publish: a run's recordings to a Hub dataset repo ---------------------------------------------------------------


def publish(
    exp: options.Exp,
    run: options.Run,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; needs no token.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send what changed since the last time.")] = False,
    repo: Annotated[str | None, typer.Option("--repo", help="Dataset repo, in place of HF_RERUN_REPO_ID.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="A repo that is not there yet is made public, not private.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Publish a run's recordings on the Hub.

    What changed goes up, by one commit, with a card. Nothing in the repo is deleted.
    """
    from thesis_assets.defs.assets.recordings import publication_plan
    from thesis_assets.publishing.publication import publication_unit
    from thesis_assets.publishing.publication import publish as send

    platform = load_platform()
    repo_id = repo or platform.settings.hf_rerun_repo_id
    if repo_id is None:
        wrong_use("no repo: give --repo or set HF_RERUN_REPO_ID")
    if dry_run == yes:
        wrong_use("give --dry-run to look, or --yes to send")
    cell = Cell(exp, run_name=run)
    platform.run_spec(cell)
    plan = publication_plan(platform, cell, repo_id)
    for warning in plan.warnings:
        progress_line(f"warning: {warning}")
    if dry_run:
        _print_plan(plan, as_json)
        return
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    record = send(
        plan,
        publication_unit(platform.evaluation_trees(cell), platform.difix(cell), run, repo_id),
        private=not (public or platform.settings.hf_rerun_public),
        on_progress=progress_line,
    )
    _remember(platform, cell, record)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        rows = [(file.path, human_bytes(file.bytes), file.path in record.sent) for file in record.files]
        print_table(f"{repo_id} at {record.revision[:12]}", ("path in the repo", "size", "sent now"), rows)
        print(record.url)


def _print_plan(plan: "PublicationPlan", as_json: bool) -> None:
    if as_json:
        files = [{"local": str(file.local), **file.published.model_dump(mode="json")} for file in plan.files]
        print_json(
            {
                "repo_id": plan.repo_id,
                "total_bytes": plan.total_bytes,
                "files": files,
                "licences": plan.licences,
                "warnings": plan.warnings,
                "commands": plan.commands,
            }
        )
        return
    rows = [(item.path_in_repo, human_bytes(item.bytes)) for item in plan.files]
    print_table(f"For {plan.repo_id}", ("path in the repo", "size"), rows)
    print("The same by hand:")
    for command in plan.commands:
        print(f"  {command}")


def _remember(platform: Platform, cell: Cell, record: "PublicationRecord") -> None:
    """Put the publication into the history, as the asset of the graph would."""
    from thesis_assets.operations.data_versions import made_outside
    from thesis_assets.operations.shown_results import publication_metadata

    with dagster_instance(platform.settings) as instance:
        metadata = {"published by": "the command line", **publication_metadata(record)}
        made = made_outside(platform, instance, "published_recordings", cell, metadata)
        instance.report_runless_asset_event(made)
