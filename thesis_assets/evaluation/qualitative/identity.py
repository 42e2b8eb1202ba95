"""Whose recording it is: run and scene of an evaluation tree, from the caller, else from the tree's own records."""

from __future__ import annotations

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.recording import RecordingIdentity
from thesis_assets.layout import EvaluationTree
from thesis_assets.schemas.evaluation import EvaluationManifest, InputDataRecord
from thesis_assets.storage import read_json


def identity_of(
    tree: EvaluationTree,
    kind: str,
    *,
    epoch: int | None = None,
    run_name: str | None = None,
    scene_name: str | None = None,
) -> RecordingIdentity:
    """The identity of one recording of a tree.

    Without a given run or scene: `manifest.json`, then `input_data.json`, then the names of the folders above the tree
    (a tree of another pipeline may have neither file, and two runs of one scene must not share an id).
    """
    manifest = _manifest(tree)
    if manifest is not None:
        run_name = run_name or str(manifest.notes.get("run_name") or "") or None
        scene_name = scene_name or manifest.scene_name
    if scene_name is None and tree.input_data_record.is_file():
        scene_name = read_json(tree.input_data_record, InputDataRecord).scene_name
    folder = tree.output_dir.resolve()
    return RecordingIdentity(
        kind=kind,
        exp_name=tree.exp_name,
        run_name=run_name or folder.parent.name,
        scene_name=scene_name or folder.name,
        epoch=epoch,
    )


def _manifest(tree: EvaluationTree) -> EvaluationManifest | None:
    try:
        return read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # a tree under construction, or one of another pipeline; its own check says so
        return None
