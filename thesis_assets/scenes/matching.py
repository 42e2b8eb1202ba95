"""Which of the scenes on disk an experiment takes, and which of them show the same people.

Taken are names, globs and a directory of scene files, less exclusions. The group of people is the unit that may not stand in both
splits.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from thesis_assets.errors import InvalidExperiment, InvalidKey, near_names
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import check_key, dataset_of


def match_scenes(names: Iterable[str], generation: GenerationSpec, base_dir: Path) -> list[str]:
    """The scenes of an experiment, sorted, each once; none where its globs match nothing (`nothing_matches`).

    A glob takes what there is; a scene named in full must be there. `exclude` wins.

    Args:
        names: the scenes on disk (`catalog.list_scenes`).
        base_dir: what a relative `generation.scenes_from` starts from.

    Raises:
        InvalidExperiment: a named scene is not there, or `scenes_from` is no directory of scene files.
    """
    there = sorted(set(names))
    if generation.scenes_from is not None:
        wanted = _scenes_from(base_dir / generation.scenes_from)
        key = "generation.scenes_from"
    else:
        wanted, key = list(generation.scenes), "generation.scenes"
    taken: set[str] = set()
    for pattern in wanted:
        if is_glob(pattern):
            taken.update(name for name in there if fnmatch.fnmatchcase(name, pattern))
        elif pattern in there:
            taken.add(pattern)
        elif not _excluded(pattern, generation.exclude):
            raise InvalidExperiment(
                "a scene that the experiment names is not on disk",
                key=key,
                found=pattern,
                wanted=f"a scene that is there: {near_names(there, [pattern])}",
                remedy="bring the scene, correct the name, or take it out; `thesis-assets scenes` lists the scenes there are",
            )
    return sorted(name for name in taken if not _excluded(name, generation.exclude))


def is_glob(pattern: str) -> bool:
    """Whether a pattern stands for any number of scenes."""
    return any(character in pattern for character in "*?[")


def _excluded(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _scenes_from(directory: Path) -> list[str]:
    """Scene names by the files `<scene_name>.json` of a directory, as the scene registry has them."""
    if not directory.is_dir():
        raise InvalidExperiment(
            "there is no such directory of scene files",
            file=directory,
            key="generation.scenes_from",
            wanted="a directory with one <scene_name>.json a scene",
            remedy="correct the path (a relative one starts from the data home)",
        )
    names = sorted(path.stem for path in directory.glob("*.json"))
    if not names:
        raise InvalidExperiment(
            "the directory has no scene files", file=directory, key="generation.scenes_from", wanted="<scene_name>.json"
        )
    for name in names:
        try:
            dataset_of(name)
        except InvalidKey as error:
            raise InvalidExperiment(
                "a file is not named after a scene", file=directory, key="generation.scenes_from", found=f"{name}.json"
            ) from error
    return names


def idle_globs(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The globs among patterns that match no scene, in their order."""
    there = list(names)
    return [each for each in patterns if is_glob(each) and not any(fnmatch.fnmatchcase(name, each) for name in there)]


def nothing_matches(
    names: Sequence[str], patterns: Sequence[str], *, key: str, root: Path, exclude: Sequence[str] = ()
) -> InvalidExperiment:
    """The error where the patterns of one key take no scene at all, with the names that are near.

    Args:
        names: the scenes on disk.
        root: where they were looked for.
        exclude: patterns that take scenes away again.
    """
    return InvalidExperiment(
        "no scene on disk matches",
        key=key,
        found=", ".join(patterns) + (f", without {', '.join(exclude)}" if exclude else ""),
        wanted=f"a scene of {root}: {near_names(names, patterns)}",
        remedy="correct the pattern, bring the scenes, or set THESIS_CANONICAL_GT_ROOT_DIR to where they are; "
        "`thesis-assets scenes` lists what is there",
    )


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


def built_in_group(scene_name: str) -> str | None:
    """The group by the rule that comes with the platform or a plug-in, upper and lower case alike; None where none fits the name."""
    name = scene_name.casefold()
    dataset = dataset_of(name)
    plug_in, rule = _plug_ins().get(dataset), BUILT_IN_RULES.get(dataset)
    if plug_in is not None:
        return plug_in(name)
    if rule is None or rule == SCENE_NAME_RULE:
        return None if rule is None else name
    match = re.search(rule, name)
    return None if match is None else match[1]


def people_of(scene_name: str, rules: Mapping[str, str]) -> frozenset[str]:
    """Every name by which the rules know the people of a scene, `<dataset>/<group>` in lower case: by the experiment's rule, and by the
    one that comes with the platform or a plug-in.

    Raises:
        As `group_id`.
    """
    dataset, built_in = dataset_of(scene_name), built_in_group(scene_name)
    groups = {group_id(scene_name, rules), *([built_in] if built_in is not None else [])}
    return frozenset(f"{dataset}/{group}".casefold() for group in groups)


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
