"""Bringing a tuning run that others made under our names: checkpoints by links, with their digests, and a train_config.json that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.adoption.findings import Findings, FoundRun
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments.runs import RunSpec
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import ADOPTED_COMMAND, CheckpointInfo
from thesis_assets.splits.data_json import content_of_file
from thesis_assets.tuning.checkpoints import load_checkpoint
from thesis_assets.tuning.run_config import make_config
from thesis_assets.tuning.run_flags import PlainFlags
from thesis_assets.tuning.run_record import record_run
from thesis_assets.tuning.trainer_start import setting_names

NOT_RECORDED = "not recorded"


def adopt_run(
    run: FoundRun,
    spec: RunSpec,
    tree: DifixTree,
    findings: Findings,
    on_progress: Callable[[str], None],
) -> None:
    """Link the checkpoints that the declared run says it saves, and write what our checks read beside them."""
    target = tree.tuning_run(run.run_name)
    data_sha256 = content_of_file(tree.data_json).sha256
    summary = storage.read_json(tree.split_summary, SplitSummary)
    config = make_config(
        tree,
        run.run_name,
        backend=spec.backend,
        flags=PlainFlags(_settings(spec, tree, run.run_name), spec.seed),
        notes=[
            f"adopted from {run.folder}: this configuration is what was understood of "
            f"{run.config if run.config is not None else 'no file: it has none'}, not what the trainer wrote",
            "the versions are those of the adoption, not of the training",
        ],
        command=ADOPTED_COMMAND,
        device=NOT_RECORDED,
        data_json_sha256=data_sha256,
        manifest_sha256=summary.manifest_sha256,
        n_train=summary.n_train,
        n_test=summary.n_test,
    )
    storage.write_json(target.train_config, config)
    steps = run.steps if spec.backend != "pretrained" else (0,)
    for step in steps:
        source = run.folder / "checkpoints" / f"model_{step if spec.backend != 'pretrained' else run.steps[-1]}.pkl"
        storage.link_or_copy(source, target.checkpoint(step))
        info = _info(target.checkpoint(step), step, data_sha256, config.hyperparameter_digest, source, findings)
        storage.write_json(target.checkpoint_info(step), info)
        on_progress(f"{tree.exp_name}/{run.run_name}: checkpoint {step} of {info.bytes / 1e6:.0f} MB")
    _link_evaluations(run, tree)
    record_run(tree, run.run_name, spec)


def _settings(spec: RunSpec, tree: DifixTree, run_name: str) -> dict[str, Any]:
    """Every setting that a run of the backend has: as it is declared, or a word that nobody knows it."""
    known = {
        **spec.model_dump(mode="json"),
        "dataset_path": str(tree.data_json),
        "output_dir": str(tree.tuning_run(run_name).base),
        "tracker_run_name": run_name,
    }
    return {name: known.get(name, NOT_RECORDED) for name in setting_names(spec.backend)}


def _info(
    path: Path, step: int, data_sha256: str, hyperparameters: str, source: Path, findings: Findings
) -> CheckpointInfo:
    try:
        keys = sorted(map(str, load_checkpoint(path)))
    except ThesisAssetsError as error:
        findings.complain(
            source, f"the checkpoint cannot be read: {error.problem}", "checkpoint_loads fails for the run"
        )
        keys = []
    return CheckpointInfo(
        step=step,
        sha256=storage.sha256_file(path),
        bytes=path.stat().st_size,
        keys=keys,
        metrics={},
        data_json_sha256=data_sha256,
        hyperparameter_digest=hyperparameters,
    )


def _link_evaluations(run: FoundRun, tree: DifixTree) -> None:
    """What lies in the run's `eval/`, by links: pictures and tables of other forms than ours are kept as they are."""
    folder = run.folder / "eval"
    if not folder.is_dir():
        return
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()):
        storage.link_or_copy(path, tree.tuning_run(run.run_name).eval_dir / path.relative_to(folder))
