"""The `split` part: which groups are held out, which scenes are reserved, how new datasets are grouped."""

import re

from pydantic import Field, field_validator, model_validator

from thesis_assets.experiments.base import Part


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
