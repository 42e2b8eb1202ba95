"""The evaluated scene of the evaluation's tests, for what is reported of it."""

from thesis_assets_tests.evaluation.conftest import evaluated, evaluated_folder, own, own_folder

__all__ = ["evaluated", "evaluated_folder", "own", "own_folder"]
