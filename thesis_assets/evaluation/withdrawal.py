"""Taking back a finished task before its files change, so that no manifest names an epoch that is not whole.

Order of a change: the manifest forgets the epoch, the metrics go with their record, then inputs, images and metrics come back one by one, each by
one rename, and the manifest is written last.
"""

from __future__ import annotations

import shutil

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.layout import EvaluationTree, TaskTree, epoch_name
from thesis_assets.schemas.evaluation import EvaluationManifest


def withdraw(tree: EvaluationTree, epoch: int, task: TaskTree) -> None:
    """Forget that `task` is finished at `epoch`. Where it never was, nothing happens."""
    _forget_epoch(tree, epoch)
    if task.metrics_dir.exists():
        aside = storage.temporary_sibling(task.metrics_dir)
        task.metrics_dir.replace(aside)
        shutil.rmtree(aside)


def _forget_epoch(tree: EvaluationTree, epoch: int) -> None:
    if not tree.manifest.exists():
        return
    try:
        manifest = storage.read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # a manifest that cannot be read says nothing, and is written again at the end
        tree.manifest.unlink()
        return
    if epoch_name(epoch) in manifest.eval_epochs:
        tree.manifest_made_from.unlink(missing_ok=True)
        epochs = [name for name in manifest.eval_epochs if name != epoch_name(epoch)]
        storage.write_json(tree.manifest, manifest.model_copy(update={"eval_epochs": epochs}))
