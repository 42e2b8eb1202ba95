"""`ExperimentSpec`: one experiment file as a value, with its smaller parts (`split`, `datasets`) and the rules that span its parts."""

import re

from pydantic import Field, field_validator, model_validator

from thesis_assets.experiments.command_template import Part
from thesis_assets.experiments.evaluation import EvaluationSpec
from thesis_assets.experiments.generation import GenerationSpec
from thesis_assets.experiments.runs import RunSpec
from thesis_assets.layout import check_key


class SplitSpec(Part):
    """Hold-out by groups: named test groups a dataset, or a seeded fraction of groups, or everything in training."""

    test_groups: dict[str, tuple[str, ...]] = {}
    test_fraction: float | None = Field(default=None, gt=0.0, lt=1.0)
    seed: int = 42
    train_only: bool = False
    reserved_scenes: tuple[str, ...] = ()
    group_rules: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> "SplitSpec":
        ways = [bool(self.test_groups), self.test_fraction is not None, self.train_only]
        if sum(ways) != 1:
            raise ValueError("exactly one of `test_groups`, `test_fraction` and `train_only: true` is needed")
        return self

    @field_validator("group_rules")
    @classmethod
    def _rules_are_expressions_with_one_group(cls, rules: dict[str, str]) -> dict[str, str]:
        for dataset, rule in rules.items():
            try:
                n_groups = re.compile(rule).groups
            except re.error as error:
                raise ValueError(f"the rule of `{dataset}` is not a regular expression: {error}") from error
            if rule != "scene_name" and n_groups != 1:
                raise ValueError(
                    f"the rule of `{dataset}` must capture exactly one part, or be `scene_name`: it captures {n_groups}"
                )
        return rules


class DatasetEntry(Part):
    """One dataset, by what stands before the first `_` of its scenes' names."""

    redistribution: bool | None = None
    """Whether images of it may be passed on: recordings hold them. None: as far as it is known here."""
    licence: str = ""
    """As a card names it; empty: as it is known here."""


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
