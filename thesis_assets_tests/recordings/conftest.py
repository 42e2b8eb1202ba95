"""One exported tree that tests only read, and copies of it for those that change something."""

import shutil
from pathlib import Path

import pytest

from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.exports import export_recordings
from thesis_assets_tests.recordings.small_tree import EXP, RUN, SCENE, make_tree


@pytest.fixture(scope="package")
def exported(tmp_path_factory: pytest.TempPathFactory) -> EvaluationTree:
    """Input data and epochs 0 and 30, exported with default options. Do not change it."""
    tree = make_tree(tmp_path_factory.mktemp("exported"))
    export_recordings(tree)
    return tree


@pytest.fixture
def tree(exported: EvaluationTree, tmp_path: Path) -> EvaluationTree:
    """A copy of the exported tree, to change."""
    shutil.copytree(exported.output_dir, tmp_path / RUN / SCENE)
    return EvaluationTree(tmp_path / RUN / SCENE, EXP)
