"""Which scenes of an experiment are evaluated."""

from fnmatch import fnmatchcase
from pathlib import Path

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import DifixTree
from thesis_assets.samples.sample_rows import scenes_of_rows
from thesis_assets.scenes.matching import nothing_matches


def evaluation_scenes(spec: ExperimentSpec, catalog: list[str], tree: DifixTree, root: Path) -> list[str]:
    """The scenes that `evaluation.scenes` names (globs over the catalog), else the test split's and the reserved ones.

    Where nothing is held out and no run trains, all scenes of the data: nothing here has seen them.

    Args:
        catalog: the scenes on disk.
        root: where they were looked for.

    Raises:
        InvalidExperiment: a pattern matches no scene, or nothing is left to evaluate.
        InvalidFile: the default needs the test manifest, and it is not there yet or cannot be read.
    """
    if spec.evaluation.scenes:
        names: set[str] = set()
        for pattern in spec.evaluation.scenes:
            matched = [name for name in catalog if fnmatchcase(name, pattern)]
            if not matched:
                raise nothing_matches(catalog, [pattern], key="evaluation.scenes", root=root)
            names.update(matched)
        return sorted(names)
    return _by_default(spec, catalog, tree)


def _by_default(spec: ExperimentSpec, catalog: list[str], tree: DifixTree) -> list[str]:
    tested = scenes_of_rows(tree.split_test)
    reserved = {name for name in spec.split.reserved_scenes if name in catalog}
    if not tested | reserved and spec.runs and all(run.backend == "pretrained" for run in spec.runs.values()):
        return sorted(scenes_of_rows(tree.split_train))
    if not tested | reserved:
        raise InvalidExperiment(
            "nothing is held out, so nothing can be evaluated by default",
            key="evaluation.scenes",
            wanted="names or globs of scenes",
            remedy="name scenes whose people are not in training",
        )
    return sorted(tested | reserved)
