"""Group rules: which people a scene shows. The group is the unit that may not stand in both splits."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points

from thesis_assets.errors import InvalidExperiment
from thesis_assets.layout import check_key, dataset_of

SCENE_NAME_RULE = "scene_name"
"""The rule of a dataset in which every scene shows other people."""

BUILT_IN_RULES: dict[str, str] = {
    "hi4d": r"^hi4d_(pair\d+)_",
    "studio": r"^studio_(pair\d+)_",
    "middlebury": SCENE_NAME_RULE,
}
PLUG_IN_GROUP = "thesis_assets.group_rules"
"""Entry points of this group are functions from scene name to group id, named after their dataset."""


def group_id(scene_name: str, rules: Mapping[str, str]) -> str:
    """The group of a scene.

    An experiment's rule wins over a plug-in's, a plug-in's over a built-in one.

    Args:
        rules: `split.group_rules` of the experiment: dataset to `scene_name`, or to a regular expression, searched in the
            scene's name, whose one captured part is the group.

    Raises:
        InvalidKey: the scene's name is unsafe, or has no dataset in front.
        InvalidExperiment: the dataset has no rule, or its rule does not fit the name; the message has the lines to write.
    """
    dataset = dataset_of(scene_name)
    plug_in = None if dataset in rules else _plug_ins().get(dataset)
    if plug_in is not None:
        return _checked(plug_in(scene_name), scene_name, f"the plug-in `{dataset}` of {PLUG_IN_GROUP}")
    rule = rules.get(dataset) or BUILT_IN_RULES.get(dataset)
    if rule is None:
        raise _no_rule(dataset, scene_name, rules)
    if rule == SCENE_NAME_RULE:
        return scene_name
    match = re.search(rule, scene_name)
    if match is None or match.lastindex is None:
        raise InvalidExperiment(
            f"the group rule of the dataset `{dataset}` does not fit a scene's name",
            key=f"split.group_rules.{dataset}",
            found=f"{rule} on {scene_name}",
            wanted="an expression that captures the part of the name that says who is in the scene",
            remedy="correct the rule, or leave the scene out by `generation.exclude`",
        )
    return _checked(match[1], scene_name, rule)


def _no_rule(dataset: str, scene_name: str, rules: Mapping[str, str]) -> InvalidExperiment:
    known = sorted({*BUILT_IN_RULES, *rules, *_plug_ins()})
    return InvalidExperiment(
        f"no group rule says which scenes of the dataset `{dataset}` show the same people",
        key=f"split.group_rules.{dataset}",
        found=scene_name,
        wanted="a rule; there are rules for " + ", ".join(known),
        remedy="add to the experiment's file either\n"
        f"    split:\n      group_rules:\n        {dataset}: scene_name   # every scene shows other people\n"
        "  or a regular expression whose one captured part is the group\n"
        f"    split:\n      group_rules:\n        {dataset}: '^{dataset}_(pair\\d+)_'",
    )


@cache
def _plug_ins() -> dict[str, Callable[[str], str]]:
    return {point.name: point.load() for point in entry_points(group=PLUG_IN_GROUP)}


def _checked(group: object, scene_name: str, rule: str) -> str:
    if not isinstance(group, str) or not group:
        raise InvalidExperiment(
            "a group rule gave no group",
            key="split.group_rules",
            found=f"{group!r} for {scene_name}",
            wanted=f"a name from {rule}",
        )
    return check_key(group, "group_id")
