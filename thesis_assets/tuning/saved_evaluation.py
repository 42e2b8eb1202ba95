"""Evaluating a checkpoint that no trainer of ours wrote, from its file, as our trainers evaluate theirs."""

from __future__ import annotations

from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.held_out_samples import from_data_json, stratified
from thesis_assets.tuning.trainer_report import TrainerReport


def evaluate_saved(tree: TuningRunTree, config: TrainConfig, step: int, report: TrainerReport) -> None:
    """Score a finished checkpoint on test samples and draw its contact sheet, unless that is done.

    Raises:
        InvalidFile: the checkpoint cannot be run here, or an image cannot be read.
    """
    from thesis_assets.tuning.refine import load_refiner
    from thesis_assets.tuning.step_evaluation import evaluate_step
    from thesis_assets.tuning.triplets import read_data_json

    path = tree.snapshot.data_json
    test = read_data_json(path).test
    if not test or tree.eval_metrics(step).is_file():
        return
    samples = stratified(from_data_json(path, test), int(config.flags["num_samples_eval"]), config.seed)
    metrics = evaluate_step(load_refiner(tree.checkpoint(step), config.device), samples, tree, step)
    checkpoints.add_metrics(tree, step, metrics)
    report.event("eval", f"{len(samples)} test samples", metrics)
