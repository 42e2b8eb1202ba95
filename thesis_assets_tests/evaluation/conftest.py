"""One evaluated scene, made once for the whole room, and copies of it to spoil."""

import shutil
from pathlib import Path

import pytest

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets_tests.evaluation.tiny_cell import evaluate, make_cell, open_cell


@pytest.fixture(scope="session")
def evaluated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(make_cell(folder))
    return folder


@pytest.fixture(scope="session")
def evaluated(evaluated_folder: Path) -> EvaluationCell:
    """Only to be looked at."""
    return open_cell(evaluated_folder)


@pytest.fixture
def own_folder(evaluated_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated_folder, tmp_path / "own"))


@pytest.fixture
def own(own_folder: Path) -> EvaluationCell:
    """A copy whose files may be changed."""
    return open_cell(own_folder)
