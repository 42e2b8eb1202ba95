"""Evaluating a run: input data, predictions, the three tasks, the manifest. One tree a scene, one row an epoch."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, declared_cells, graph_asset
from thesis_assets.defs.step_work import CPU, GPU, SHARED_GPU, Described, Place, described_calls, job_cores
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform, PlatformParam
from thesis_assets.layout import epoch_name
from thesis_assets.operations.metadata import Metadata, picture_file, table
from thesis_assets.operations.shown_results import absent_scenes, evaluation_results, without_video, worst_comparison

if TYPE_CHECKING:
    from thesis_assets.evaluation.cell import EvaluationCell
    from thesis_assets.evaluation.shared_work import Outcomes, SceneEpochs
    from thesis_assets.launch.mapping import Course
    from thesis_assets.schemas.evaluation import PredictionRecord, Protocol


Row = tuple[object, ...]
MOST_REASONS = 6
"""Of a scene's task each, in the message of an evaluation of which nothing can be made."""
LPIPS_WORKERS = 4
"""Processes that share a GPU for LPIPS: about 2 GB each."""


def _of_scenes(
    context: dg.AssetExecutionContext,
    platform: Platform,
    step: "Callable[[SceneEpochs], Outcomes[Any] | Course[Outcomes[Any]]]",
    place: Place,
    show: "Callable[[Cell, Outcomes[Any]], Metadata]",
    workers: int,
    *,
    by_epoch: bool,
) -> Described:
    """Of every evaluated scene one step: on a cluster a job a scene, here in as many parts as it has epochs, where `by_epoch`.

    Args:
        show: of a cell, from what came of its scenes.
    """
    from thesis_assets.evaluation.shared_work import Outcomes, SceneEpochs, joined

    asset = context.asset_key.to_user_string()
    calls = {}
    for cell in declared_cells(context, platform, "exp_by_run"):
        items = {
            each.scene.name: SceneEpochs(each, tuple(each.epoch_steps())) for each in platform.evaluation_cells(cell)
        }
        if by_epoch and platform.settings.launcher == "local":
            # Epoch by epoch: a process loads each checkpoint once for all scenes.
            epochs = sorted({epoch for item in items.values() for epoch in item.epochs})
            items = {
                f"{name}--{epoch_name(epoch)}": SceneEpochs(item.cell, (epoch,))
                for epoch in epochs
                for name, item in items.items()
                if epoch in item.epochs
            }
        calls[cell] = described_calls(platform, asset, cell, items)

    def shown(cell: Cell, answers: list[Any]) -> Metadata:
        parts = []
        for call, answer in zip(calls[cell], answers, strict=True):
            if isinstance(answer, ThesisAssetsError):
                failed: Outcomes[Any] = Outcomes()
                failed.fail(call.item.cell.scene.name, answer)
                answer = failed
            parts.append(answer)
        outcomes = joined(parts)
        outcomes.raise_failures()
        return show(cell, outcomes)

    return Described(step, calls, place, shown, workers)


def _gpu_workers(platform: Platform, source: str) -> int:
    """Who makes predictions, at once. A pipeline of the user's takes a GPU whatever the platform itself runs on."""
    if platform.settings.launcher != "local":
        return 1
    return platform.settings.gpu_slots if platform.device != "cpu" or source == "command" else platform.workers


def _measuring_workers(platform: Platform) -> int:
    """Who measures views, at once: every core; beside a GPU that LPIPS runs on, as many as fit its memory."""
    from thesis_assets.evaluation.nvs_metrics import lpips_or_reason

    workers = job_cores(platform, SHARED_GPU) or platform.workers
    if platform.device == "cpu" or not lpips_or_reason(platform.settings.lpips_weights, "cpu")[0]:
        return workers
    return min(workers, LPIPS_WORKERS * (platform.settings.gpu_slots if platform.settings.launcher == "local" else 1))


def over_scenes(platform: Platform, cell: Cell, work: "Callable[[EvaluationCell], list[Row]]") -> list[Row]:
    """Do one thing for every evaluated scene; a failed scene leaves the others and fails the cell at the end.

    Raises:
        ThesisAssetsError: with every failed scene and its reason.
    """
    rows: list[Row] = []
    failed: list[str] = []
    for evaluated in platform.evaluation_cells(cell):
        try:
            rows += work(evaluated)
        except ThesisAssetsError as error:
            failed.append(f"{evaluated.scene.name}: {error}")
    if failed:
        raise ThesisAssetsError("scenes failed; the others are in place", found="\n".join(failed))
    return rows


@graph_asset(
    "input_data",
    description="Exactly the data that the evaluation reads, linked with digests; and what the trainer saw, as pictures.",
    kinds={"files"},
)
def input_data(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """Link each evaluated scene's inputs into its tree."""
    from thesis_assets.evaluation.input_data import link_input_data

    (cell,) = cells_of(context, "exp_by_run")

    def work(evaluated: "EvaluationCell") -> list[Row]:
        record = link_input_data(evaluated)
        return [(record.scene_name, len(record.cameras), len(record.frames), ", ".join(record.missing) or "nothing")]

    rows = over_scenes(platform, cell, work)
    context.add_output_metadata({"scenes": table(("scene", "cameras", "frames", "missing"), rows)})


@graph_asset(
    "predictions",
    description="The views that are evaluated: each epoch's checkpoint applied to the imperfect renders, native size.",
    kinds={"pytorch"},
    pool="gpu",
)
def predictions(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described:
    """Describe the predictions of every evaluated scene and epoch: to be made, run or linked; those as wanted are kept."""
    from thesis_assets.evaluation.refined_predictions import forget_refiners
    from thesis_assets.evaluation.scene_steps import predict_views

    cells = declared_cells(context, platform, "exp_by_run")
    sources = {cell: platform.spec(cell).evaluation.predictions.source for cell in cells}
    refined = set(sources.values()) == {"refine"}

    def show(cell: Cell, outcomes: "Outcomes[PredictionRecord]") -> Metadata:
        forget_refiners()
        rows = [
            (scene, epoch_name(epoch), "unrefined" if record.step is None else record.step, record.n_images)
            for (scene, epoch), record in sorted(outcomes.records.items())
        ]
        made = table(("scene", "epoch", "step", "views"), rows)
        return {"source": sources[cell], "predictions": made, **absent_scenes(outcomes.absent)}

    workers = min(_gpu_workers(platform, source) for source in sources.values())
    return _of_scenes(context, platform, predict_views, GPU, show, workers, by_epoch=refined)


@graph_asset(
    "nvs",
    description="Novel view synthesis: PSNR, SSIM and LPIPS a frame, a camera and overall, with protocol.json.",
    kinds={"csv"},
)
def nvs(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described | None:
    """Compare predicted and true views of every evaluated scene and epoch."""
    from thesis_assets.evaluation.nvs import measure_views

    if not _is_enabled(context, platform, "nvs"):
        return None

    def show(cell: Cell, outcomes: "Outcomes[Protocol]") -> Metadata:
        comparison = worst_comparison(platform, cell)
        return {
            **({} if comparison is None else {"render | truth": picture_file(comparison)}),
            **evaluation_results(platform, "nvs", cell, outcomes),
            **without_video(outcomes.records.values()),
        }

    workers = _measuring_workers(platform)
    return _of_scenes(context, platform, measure_views, SHARED_GPU, show, workers, by_epoch=True)


def _is_enabled(context: dg.AssetExecutionContext, platform: Platform, task: str) -> bool:
    """Whether the step's cells have a task; all are of one experiment file where they are several."""
    cells = declared_cells(context, platform, "exp_by_run")
    enabled = any(task in platform.spec(cell).evaluation.tasks for cell in cells)
    if not enabled:
        context.add_output_metadata({"not evaluated": f"{task} is not among evaluation.tasks"})
    return enabled


def _pose(context: dg.AssetExecutionContext, platform: Platform, task: str) -> Described | None:
    from thesis_assets.evaluation.pose import measure_poses

    if not _is_enabled(context, platform, task):
        return None

    def show(cell: Cell, outcomes: "Outcomes[Protocol]") -> Metadata:
        return evaluation_results(platform, task, cell, outcomes)

    step = functools.partial(measure_poses, task)
    workers = job_cores(platform, CPU) or platform.workers
    return _of_scenes(context, platform, step, CPU, show, workers, by_epoch=False)


@graph_asset(
    "pose_smplx",
    description="SMPL-X pose: estimated bodies against ground truth, root-relative and in the world, with aligned meshes.",
    kinds={"csv"},
)
def pose_smplx(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described | None:
    """Evaluate the SMPL-X poses."""
    return _pose(context, platform, "pose_smplx")


@graph_asset(
    "pose_smpl",
    description="SMPL pose: estimated bodies against ground truth, root-relative and in the world, with aligned meshes.",
    kinds={"csv"},
)
def pose_smpl(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described | None:
    """Evaluate the SMPL poses."""
    return _pose(context, platform, "pose_smpl")


@graph_asset(
    "evaluation_manifest",
    description="manifest.json of each evaluated scene: tasks and epochs, from what is on disk.",
    kinds={"json"},
)
def evaluation_manifest(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """Write each scene's manifest last."""
    from thesis_assets.evaluation.manifest import write_manifest

    (cell,) = cells_of(context, "exp_by_run")
    absent: dict[str, Mapping[str, str]] = {}
    has_any = False

    def work(evaluated: "EvaluationCell") -> list[Row]:
        nonlocal has_any
        manifest = write_manifest(evaluated)
        has_any = has_any or bool(manifest.tasks)
        absent[manifest.scene_name] = manifest.notes["absent_tasks"]
        return [(manifest.scene_name, ", ".join(manifest.tasks), ", ".join(manifest.eval_epochs))]

    rows = over_scenes(platform, cell, work)
    context.add_output_metadata({"manifests": table(("scene", "tasks", "epochs"), rows)})
    if absent and not has_any:
        reasons = [f"{scene}, {task}: {why}" for scene, tasks in absent.items() for task, why in tasks.items()]
        raise ThesisAssetsError(
            "nothing that the evaluation asks for can be made",
            file=platform.experiments.path(cell.exp_name),
            key="evaluation.tasks",
            found="; ".join(reasons[:MOST_REASONS]),
            wanted="a task that one of its scenes can have",
            remedy=f"bring what is lacking (`thesis-assets scene check {next(iter(absent))}`), or ask for other tasks or scenes",
        )
