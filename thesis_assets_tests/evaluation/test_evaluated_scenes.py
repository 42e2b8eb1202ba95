"""Which scenes are evaluated where the experiment's file names none."""

from pathlib import Path
from typing import Any

import pytest

from thesis_assets.errors import InvalidExperiment
from thesis_assets.evaluation.cell import evaluation_scenes
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import DifixTree
from thesis_assets.storage import write_text

PRETRAINED = {"backend": "pretrained", "model": "nvidia/difix_ref"}


def scenes(root: Path, runs: dict[str, Any], *, train: tuple[str, ...], test: tuple[str, ...] = ()) -> list[str]:
    tree = DifixTree(root, "v1")
    for path, names in ((tree.split_train, train), (tree.split_test, test)):
        write_text(path, "".join(f'{{"scene_name": "{name}"}}\n' for name in names))
    split = {"train_only": True, "group_rules": {"garden": "scene_name"}}
    spec = ExperimentSpec.model_validate(
        {"exp_name": "v1", "generation": {"scenes": ["garden_*"]}, "split": split, "runs": runs}
    )
    return evaluation_scenes(spec, [*train, *test], tree, root)


def test_they_are_those_of_the_test_split(tmp_path: Path) -> None:
    assert scenes(tmp_path, {"theirs": PRETRAINED}, train=("garden_a",), test=("garden_b",)) == ["garden_b"]


def test_where_nothing_is_held_out_and_nothing_is_trained_they_are_all(tmp_path: Path) -> None:
    assert scenes(tmp_path, {"theirs": PRETRAINED}, train=("garden_b", "garden_a")) == ["garden_a", "garden_b"]


@pytest.mark.parametrize("runs", [{"theirs": PRETRAINED, "ours": {"backend": "tiny"}}, {}])
def test_where_a_run_trains_on_them_one_has_to_name_them(tmp_path: Path, runs: dict[str, Any]) -> None:
    with pytest.raises(InvalidExperiment, match="nothing is held out"):
        scenes(tmp_path, runs, train=("garden_a",))
