"""Which of the scenes on disk an experiment takes: names, globs, a directory of scene files, exclusions."""

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

from thesis_assets.errors import InvalidExperiment, InvalidKey, near_names
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import dataset_of


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
            raise _not_there(pattern, there, key)
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


def _not_there(name: str, there: Sequence[str], key: str) -> InvalidExperiment:
    return InvalidExperiment(
        "a scene that the experiment names is not on disk",
        key=key,
        found=name,
        wanted=f"a scene that is there: {near_names(there, [name])}",
        remedy="bring the scene, correct the name, or take it out; `thesis-assets scenes` lists the scenes there are",
    )
