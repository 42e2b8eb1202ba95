"""Fine-tuning one run over one snapshot, and choosing its checkpoint."""

import functools
from typing import Any

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, graph_asset
from thesis_assets.defs.step_work import GPU, Described, described_calls, following, only
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform, PlatformParam
from thesis_assets.operations.metadata import Metadata, picture, picture_file, rounded, table
from thesis_assets.operations.training_observations import CONTACT_SHEET, TrainingWatch, final_numbers, job_metadata
from thesis_assets.operations.trainings import train
from thesis_assets.schemas.tuning import SelectedCheckpoint


@graph_asset(
    "tuned_checkpoint",
    description="The fine-tuning run: checkpoints, evaluation files and train_config.json, by a trainer process of its own.",
    kinds={"pytorch", "accelerate"},
    pool="gpu",
)
def tuned_checkpoint(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """Re-validate the snapshot, launch the trainer, follow it, verify what it saved."""
    from thesis_assets.tuning.progress_file import curves_picture

    (cell,) = cells_of(context, "exp_by_run")
    report = platform.reporter(context)
    tree = platform.difix(cell).tuning_run(cell.run_name)
    result = train(
        platform,
        cell,
        following(context.get_step_execution_context(), report),
        on_plan=lambda line: report(f"plan of {cell.run_name}: {line}"),
        on_progress=TrainingWatch(context.log_event, cell, tree, report).see,
    )
    pictures = {CONTACT_SHEET: picture_file(result.contact_sheet)} if result.contact_sheet is not None else {}
    context.add_output_metadata(
        {
            **pictures,
            "curves": picture(curves_picture(result.curves)),
            **final_numbers(result.curves),
            **({"plan": "\n".join(result.plan)} if result.plan else {}),
            "checkpoints": [tree.checkpoint(step).name for step in result.steps],
        }
    )
    # Of the asset, so that they stand below the digests.
    of_job = job_metadata(tree, result.job) if result.job is not None else {}
    context.add_asset_metadata({**of_job, "run directory": dg.MetadataValue.path(tree.base)})


@graph_asset(
    "selected_checkpoint",
    description="The checkpoint handed on: scored on people one does not report on; selected_checkpoint.json and overrides.",
    kinds={"json"},
    pool="gpu",
)
def selected_checkpoint(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described:
    """Choose the run's checkpoint by its rule."""
    from thesis_assets.tuning.selection import SelectionWork, choose_checkpoint

    (cell,) = cells_of(context, "exp_by_run")
    work = SelectionWork(
        tree=platform.difix(cell),
        run_name=cell.run_name,
        run=platform.run_spec(cell),
        evaluation_groups=frozenset(platform.evaluation_groups(platform.spec(cell))),
        device=platform.device,
        lpips_weights=platform.settings.lpips_weights,
    )
    calls = {cell: described_calls(platform, "selected_checkpoint", cell, {"": work})}
    return Described(choose_checkpoint, calls, GPU, functools.partial(_selected, platform))


def _selected(platform: Platform, cell: Cell, answers: list[Any]) -> Metadata:
    from thesis_assets.tuning.selection import hydra_override

    selected: SelectedCheckpoint = only(answers)
    rows = [
        (
            score.step,
            score.n_samples,
            f"{score.psnr:.3f}",
            f"{score.psnr_render:.3f}",
            f"{score.psnr - score.psnr_render:+.3f}",
            "" if score.lpips is None else f"{score.lpips:.4f}",
            "" if score.lpips_render is None else f"{score.lpips_render:.4f}",
        )
        for score in selected.scores
    ]
    chosen = next((score for score in selected.scores if score.step == selected.step), None)
    header = ("step", "samples", "PSNR", "PSNR of the render", "gain", "LPIPS", "LPIPS of the render")
    return {
        **({} if chosen is None else {"PSNR gain": rounded(chosen.psnr - chosen.psnr_render)}),
        "step": selected.step,
        "rule": selected.rule,
        "scores": table(header, rows),
        "sha256": selected.sha256,
        "Hydra override": hydra_override(selected),
        "checkpoint": dg.MetadataValue.path(selected.path),
        "overrides": dg.MetadataValue.path(platform.difix(cell).tuning_run(cell.run_name).pipeline_overrides),
    }
