"""`ExperimentSpec`: one experiment file as a value, with the rules that span its parts."""

from pydantic import field_validator, model_validator

from thesis_assets.experiments.base import Part
from thesis_assets.experiments.datasets import DatasetEntry
from thesis_assets.experiments.evaluation import EvaluationSpec
from thesis_assets.experiments.generation import GenerationSpec
from thesis_assets.experiments.runs import RunSpec
from thesis_assets.experiments.split import SplitSpec
from thesis_assets.layout import check_key


class ExperimentSpec(Part):
    """`experiments/<exp_name>.yaml`. `exp_name` names one data snapshot; `runs` are the tuning runs on top of it."""

    exp_name: str
    description: str = ""
    generation: GenerationSpec
    split: SplitSpec
    runs: dict[str, RunSpec] = {}
    evaluation: EvaluationSpec = EvaluationSpec()
    datasets: dict[str, DatasetEntry] = {}
    evaluation_only: bool = False
    """Nothing is exported or tuned: the runs stand for trees that others made, and `evaluation.predictions` names them."""

    @field_validator("exp_name")
    @classmethod
    def _name_is_a_key(cls, name: str) -> str:
        return _checked(name, "exp_name")

    @field_validator("runs")
    @classmethod
    def _runs_are_keys(cls, runs: dict[str, RunSpec]) -> dict[str, RunSpec]:
        for name in runs:
            _checked(name, "run_name")
        return runs

    @model_validator(mode="after")
    def _evaluation_only_has_a_tree(self) -> "ExperimentSpec":
        if self.evaluation_only and (self.evaluation.predictions.source != "existing" or not self.evaluation.scenes):
            raise ValueError(
                "`evaluation_only` is for trees that are there: it needs `evaluation.predictions` of source `existing`, "
                "and `evaluation.scenes`"
            )
        return self

    @model_validator(mode="after")
    def _epochs_are_saved(self) -> "ExperimentSpec":
        for name, run in self.runs.items():
            try:
                self.evaluation.epoch_steps(run)
            except ValueError as error:
                raise ValueError(f"evaluation.epochs does not fit run `{name}`: {error}") from error
        return self


def _checked(name: str, what: str) -> str:
    try:
        return check_key(name, what)
    except Exception as error:
        raise ValueError(" ".join(str(error).split())) from error
