"""The recordings of one cell of the graph, as units: what there is to be made, looked at and mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thesis_assets.evaluation.qualitative.evaluation import epoch_recording_units, evaluation_recording_unit
from thesis_assets.evaluation.qualitative.input_data import input_data_recording_unit
from thesis_assets.evaluation.qualitative.triplets import triplet_recording_unit
from thesis_assets.layout import DifixTree, EvaluationTree
from thesis_assets.provenance import Unit

__all__ = ["evaluation_recording_unit", "input_data_recording_unit", "recording_units", "triplet_recording_unit"]


def recording_units(
    asset: str, trees: Mapping[str, EvaluationTree], difix: DifixTree, run_name: str, epochs: Sequence[int]
) -> list[Unit]:
    """The recordings that an asset of one run consists of.

    Args:
        asset: `triplet_recording`, `input_data_recording` or `evaluation_recordings`.
        trees: evaluated scene to its tree.
        epochs: those that the run is evaluated at.
    """
    if asset == "triplet_recording":
        return [triplet_recording_unit(difix, run_name)]
    scenes = trees.items()
    if asset == "input_data_recording":
        return [input_data_recording_unit(tree, run_name=run_name, scene_name=scene) for scene, tree in scenes]
    names = [(tree, epoch, scene) for scene, tree in scenes for epoch in epochs]
    of_epochs = (
        epoch_recording_units(tree, epoch, run_name=run_name, scene_name=scene) for tree, epoch, scene in names
    )
    return [unit for units in of_epochs for unit in units.values()]
