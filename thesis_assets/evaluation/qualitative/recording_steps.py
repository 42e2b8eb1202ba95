"""Making recordings as calls that may run elsewhere: what was recorded, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree, EvaluationTree

Row = tuple[Path, int, str]


@dataclass(frozen=True)
class RunWork:
    """One tuning run. `device`: for refining with its checkpoints."""

    tree: DifixTree
    run_name: str
    device: str


@dataclass(frozen=True)
class SceneWork:
    """One evaluated scene of one run, and the epochs to record. `split_bytes`: as of `export_evaluation`."""

    tree: EvaluationTree
    run_name: str
    scene_name: str
    epochs: Sequence[int] = ()
    split_bytes: int = 0


def record_triplets(work: RunWork) -> list[Row]:
    """The course of a tuning run: (file, bytes, what is absent)."""
    from thesis_assets.evaluation.qualitative.triplets import export_triplets

    facts = export_triplets(work.tree, work.run_name, device=work.device, on_progress=tell)
    return [(work.tree.tuning_run(work.run_name).triplet_recording, facts.bytes, _absent(facts.absent))]


def record_input_data(work: SceneWork) -> list[Row]:
    """A scene's input data: (file, bytes, what is absent)."""
    from thesis_assets.evaluation.qualitative.input_data import export_input_data

    facts = export_input_data(work.tree, run_name=work.run_name, scene_name=work.scene_name, on_progress=tell)
    return [(work.tree.input_data_recording, facts.bytes, _absent(facts.absent))]


def record_epochs(work: SceneWork) -> list[Row]:
    """Every epoch of a scene's evaluation: (file, bytes, what is absent) of each."""
    from thesis_assets.evaluation.qualitative.evaluation import export_evaluation

    rows = []
    for epoch in work.epochs:
        facts = export_evaluation(
            work.tree,
            epoch,
            run_name=work.run_name,
            scene_name=work.scene_name,
            split_bytes=work.split_bytes,
            on_progress=tell,
        )
        rows.append((work.tree.evaluation_recording(epoch), facts.bytes, _absent(facts.absent)))
    return rows


def _absent(absent: Sequence[str]) -> str:
    return ", ".join(absent) or "nothing"
