"""Whom the models had seen that a run builds on: base models, estimators of poses, LPIPS, and runs that its weights were taken from.

Of models that others trained the ledger says it, of runs of ours their own split. Does not belong here: whom the run itself was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey, first_names
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.experiments.model_ledger import read_model_entry
from thesis_assets.images.lpips_files import network_of
from thesis_assets.layout import CONVERTED_RECORD, DifixTree, ModelLedger, TuningRunTree, dataset_of
from thesis_assets.scenes.listing import SceneRoots, file_with_content, read_estimators
from thesis_assets.scenes.matching import group_id, people_of
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.models import WHOLE_DATASET, ModelEntry
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import ConvertedModel, TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.take_pretrained import base_model_in

GroupRules = Mapping[str, str]
"""`split.group_rules` of an experiment."""


@dataclass(frozen=True)
class UpstreamModel:
    """A model that an evaluated run builds on.

    Attributes:
        model_id: by which the ledger knows it; of a run of ours `<exp_name>/<run_name>`.
        part: what it is here, in words.
        entry: whom it had seen; None: nobody wrote that down.
        where: the file that says so, or would.
    """

    model_id: str
    part: str
    entry: ModelEntry | None
    where: str

    def saw(self, scene_name: str, rules: GroupRules) -> bool:
        """Whether it was trained on the people of a scene, by any name that the group rules have for them."""
        if self.entry is None:
            return False
        dataset, people = dataset_of(scene_name).casefold(), people_of(scene_name, rules)
        named = [name for of, names in self.entry.trained_on.items() if of.casefold() == dataset for name in names]
        return any(
            name == WHOLE_DATASET or not people.isdisjoint(_people_named(dataset, name, rules)) for name in named
        )


def _people_named(dataset: str, name: str, rules: GroupRules) -> frozenset[str]:
    """The people of a word of an entry: that is a group's name, or a scene's."""
    people = frozenset((f"{dataset}/{name}".casefold(),))
    with suppress(InvalidKey, InvalidExperiment):  # no scene's name, or one that no rule reads
        if dataset_of(name).casefold() == dataset:
            return people | people_of(name, rules)
    return people


def names_of_scene(scene_name: str, roots: SceneRoots, rules: GroupRules) -> list[str]:
    """The scene's name, and that of the scene that its folder is a link to."""
    real = roots.tree(scene_name).ground_truth.base.resolve().name
    with suppress(InvalidKey, InvalidExperiment):
        if real != scene_name and people_of(real, rules):
            return [scene_name, real]
    return [scene_name]


def check_upstream_unseen(
    scenes: Mapping[str, Collection[str]],
    models: Sequence[UpstreamModel],
    rules: GroupRules,
    same_photographs: Callable[[UpstreamModel], Sequence[str]] = lambda model: (),
) -> CheckOutcome:
    """`upstream_saw_evaluated_people`: no model that a run builds on was trained on people that are evaluated.

    A model of which nobody wrote down whom it had seen is named, and fails nothing.

    Args:
        scenes: that are evaluated, each with all its names (`names_of_scene`).
        same_photographs: in words, the photographs of evaluated scenes that a model was trained on under another name.
    """
    seen: dict[tuple[str, str], UpstreamModel] = {}
    groups = {scene: f"{dataset_of(scene)}/{group_id(scene, rules)}" for scene in scenes}
    for model in models:
        for scene, names in scenes.items():
            if any(model.saw(name, rules) for name in names):
                seen[groups[scene], model.model_id] = model
    offenders = [
        f"{group}: {model.model_id} ({model.part}) was trained on these people, by {model.where}"
        for (group, _), model in sorted(seen.items(), key=lambda each: each[0])
    ]
    offenders += [
        f"{line}; {model.model_id} ({model.part}) was trained on the former, by {model.where}"
        for model in models
        for line in same_photographs(model)
    ]
    unknown = [f"{model.model_id} ({model.part}; {model.where})" for model in models if model.entry is None]
    message = (
        "models that the run builds on were trained on people that are evaluated: "
        + first_names([line.partition(" was trained")[0] for line in offenders])
        if offenders
        else f"none of the {len(models)} models that the run builds on is known to have seen the people that are evaluated"
    )
    message += f"; whom these had seen is unknown: {first_names(unknown)}" if unknown else ""
    counts = {"evaluation_groups": len(set(groups.values())), "models": len(models), "unknown": len(unknown)}
    return CheckOutcome.of(offenders, message=message, counts=dict(counts))


def upstream_models(
    tree: DifixTree, run_name: str, spec: ExperimentSpec, ledger: ModelLedger, roots: SceneRoots, scenes: Sequence[str]
) -> list[UpstreamModel]:
    """The models that the evaluation of a run builds on, each once.

    Args:
        scenes: that are evaluated.

    Raises:
        InvalidFile: an entry of the ledger, or a file of a run, cannot be read.
    """
    found: dict[str, UpstreamModel] = {}
    for model in _models(tree, run_name, spec, ledger, roots, scenes):
        known = found.get(model.model_id, model)
        is_more = model.part not in known.part
        found[model.model_id] = replace(known, part=f"{known.part}, {model.part}") if is_more else known
    return list(found.values())


def _models(
    tree: DifixTree, run_name: str, spec: ExperimentSpec, ledger: ModelLedger, roots: SceneRoots, scenes: Sequence[str]
) -> Iterator[UpstreamModel]:
    run = spec.runs[run_name]
    if spec.evaluation_only:
        yield _of_ledger(ledger, run.model or run_name, "what made the evaluated tree")
    else:
        yield from _weights(tree.tuning_run(run_name), run.backend, run.model, ledger, set())
    if "nvs" in spec.evaluation.tasks:
        for convention in spec.evaluation.nvs.lpips:
            yield _lpips(ledger, network_of(convention), "LPIPS of the tables")
    yield from _estimators(ledger, roots, scenes)


def _weights(
    run: TuningRunTree, backend: str, model: str | None, ledger: ModelLedger, passed: set[Path]
) -> Iterator[UpstreamModel]:
    """What the weights of a run of ours come from, run by run, and what their losses looked through."""
    flags = read_json(run.train_config, TrainConfig).flags if run.train_config.is_file() else {}
    if backend == "tiny":  # trained from nothing, on L2 alone
        return
    if backend == "pretrained":
        model = flags.get("model") or model
    else:
        model = base_model_in(flags) or model
        if flags.get("lambda_lpips"):
            yield _lpips(ledger, "vgg", "LPIPS of the loss")
    if model is None:
        yield UpstreamModel(f"the base model of {run.base.name}", "base model", None, str(run.train_config))
        return
    source = _run_at(model)
    if source is None:
        yield _of_ledger(ledger, model_id_of(model), "base model")
    elif source.base not in passed:
        trained_by = read_json(source.train_config, TrainConfig).backend
        if trained_by != "pretrained":
            yield _of_run(source)
        yield from _weights(source, trained_by, None, ledger, {*passed, source.base})


def _run_at(model: str) -> TuningRunTree | None:
    """The tuning run that a checkpoint, a directory converted from one, or a run's folder belongs to; None of anything else."""
    path = Path(model).expanduser().absolute()
    if not path.exists():
        return None
    if (path / CONVERTED_RECORD).is_file():
        path = Path(read_json(path / CONVERTED_RECORD, ConvertedModel).checkpoint)
    runs = map(TuningRunTree, (path, *path.parents[:3]))
    return next((run for run in runs if run.train_config.is_file()), None)


def _of_run(run: TuningRunTree) -> UpstreamModel:
    snapshot = run.snapshot
    try:
        groups = read_json(snapshot.split_summary, SplitSummary).train_group_ids
    except InvalidFile:
        entry = None
    else:
        trained_on: dict[str, tuple[str, ...]] = {}
        for dataset, _, group in (each.partition("/") for each in groups):
            trained_on[dataset] = (*trained_on.get(dataset, ()), group)
        entry = ModelEntry(trained_on=trained_on, source="its own split")
    return UpstreamModel(
        f"{snapshot.exp_name}/{run.base.name}", "run that its weights are of", entry, str(snapshot.split_summary)
    )


def model_id_of(model: str) -> str:
    """The id of what a run names as its model: a Hub id as it is, also of a folder in the Hub's cache; of any other folder its name."""
    path = Path(model).expanduser()
    if not (path.is_dir() or model.startswith((".", "/", "~"))):
        return model
    cached = next((part for part in path.parts if part.startswith("models--")), None)
    return cached.removeprefix("models--").replace("--", "/") if cached else path.absolute().name


def _of_ledger(ledger: ModelLedger, model_id: str, part: str) -> UpstreamModel:
    try:
        where = ledger.entry(model_id)
    except InvalidKey:
        return UpstreamModel(model_id, part, None, "its id cannot be a file's name")
    return UpstreamModel(model_id, part, read_model_entry(ledger, model_id), str(where))


def _lpips(ledger: ModelLedger, network: str, part: str) -> UpstreamModel:
    return _of_ledger(ledger, f"lpips-{network}", part)


def _estimators(ledger: ModelLedger, roots: SceneRoots, scenes: Sequence[str]) -> Iterator[UpstreamModel]:
    """Of the estimates of the evaluated scenes, by their `preprocess_info.txt`; those that name none are one that is unknown."""
    unnamed: dict[str, Path] = {}
    for scene_name in scenes:
        estimated = roots.tree(scene_name).estimated
        info = file_with_content(estimated.preprocess_info, roots)
        estimators = [] if info is None else read_estimators(info)
        for estimator in estimators:
            yield _of_ledger(ledger, estimator, "estimator of the scenes' poses")
        if not estimators and any(estimated.bodies_dir(model).is_dir() for model in ("smplx", "smpl")):
            unnamed[scene_name] = estimated.preprocess_info
    if unnamed:
        lacking = f"no line `estimator: <id>` in {next(iter(unnamed.values()))}"
        yield UpstreamModel(f"the estimates of {first_names(list(unnamed))}", "estimated poses", None, lacking)
