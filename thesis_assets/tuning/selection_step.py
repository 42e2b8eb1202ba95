"""Choosing a run's checkpoint as a call that may run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thesis_assets.experiments.spec import RunSpec
from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.tuning.selection import select_checkpoint


@dataclass(frozen=True)
class SelectionWork:
    """One run. Picklable. The attributes are the arguments of `selection.select_checkpoint`."""

    tree: DifixTree
    run_name: str
    run: RunSpec
    evaluation_groups: frozenset[str]
    device: str
    lpips_weights: Path | None


def choose_checkpoint(work: SelectionWork) -> SelectedCheckpoint:
    """As `selection.select_checkpoint`; its progress is told to who called."""
    return select_checkpoint(
        work.tree,
        work.run_name,
        work.run,
        evaluation_groups=set(work.evaluation_groups),
        device=work.device,
        lpips_weights=work.lpips_weights,
        on_progress=tell,
    )
