"""From what was found to what will be declared: an experiment a snapshot, with the trees that were evaluated of it; and one of trees alone.

Pure but for reading the snapshots' rows and the older `generation_config.yaml` and `run_config.yaml`, of any keys. Does not belong here:
writing anything.
"""

from __future__ import annotations

import os
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.adoption.scan import Findings, FoundRun, FoundScores, FoundSnapshot, flatten, resolve
from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey
from thesis_assets.experiments.spec import GenerationSpec, RunSpec
from thesis_assets.layout import TASKS, AdoptedTrees, DifixTree, SampleId, check_key, dataset_of
from thesis_assets.samples.sample_rows import group_key, row_of
from thesis_assets.samples.snapshot import GenerationConfig
from thesis_assets.scenes.matching import group_id
from thesis_assets.schemas.samples import SampleRow, SplitSummary
from thesis_assets.schemas.tuning import TrainConfig

NO_MODEL = "not known: an evaluated tree, whose checkpoint is not here"
GENERATION_KEYS = {
    "stride": "frames.stride",
    "frame_stride": "frames.stride",
    "max_samples_per_camera": "frames.max_samples_per_camera",
    "max_samples_per_cam": "frames.max_samples_per_camera",
    "apply_skip_frames": "frames.apply_skip_frames",
    "min_mask_coverage": "filtering.min_mask_coverage",
    "apply_mask": "filtering.apply_mask",
    "prompt": "export.prompt",
    "reference_strategy": "reference.strategy",
    "source_camera": "source_camera",
    "source_cam_id": "source_camera",
    "target_cam_ids": "target_cameras.ids",
}
"""Older key -> ours, whatever section it stands in."""
MODEL_KEYS = ("base_model_id", "pretrained_model_name_or_path", "model")
DIFIX_SCRIPT = "submodules/difix3d/src/train_difix.py"
BASE_MODEL = "stabilityai/sd-turbo"
IMAGES = ("image.png", "target_image.jpg", "ref_image.jpg")
MAX_NAMED = 5
MAX_META_BYTES = 1024 * 1024


@dataclass
class FoundRows:
    """Rows in today's form, sorted by id; `folders`: the sample's folder on disk by its id; `split`: `train` or `test` by id."""

    rows: list[SampleRow] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    prompt: str | None = None

    @property
    def scenes(self) -> list[str]:
        return sorted({row.scene_name for row in self.rows})

    def images(self, row: SampleRow) -> list[Path]:
        """A sample's three images, whether or not they are there."""
        return [self.folders[row.sample_id] / name for name in IMAGES]

    def half(self, side: str) -> list[SampleRow]:
        return [row for row in self.rows if self.split[row.sample_id] == side]

    def groups(self, side: str) -> list[str]:
        return sorted({group_key(row) for row in self.half(side)})


@dataclass(frozen=True)
class PlannedRun:
    """A run that is adopted.

    Attributes:
        spec: its declaration, of which the steps are those that are there.
        stated: what its configuration says of it, by the trainer's names and as it stands there.
        noted: what only a configuration of this platform says: on what, and with which versions, the run was trained.
    """

    found: FoundRun
    spec: RunSpec
    stated: Mapping[str, Any]
    noted: TrainConfig | None = None


@dataclass(frozen=True)
class PlannedExperiment:
    """One experiment file, and what stands behind it.

    Attributes:
        value: the file's keys, without `exp_name`.
        runs: those of the snapshot's runs that are adopted.
        scores: by (run, scene).
        mirrored: the scores' trees are made by links under `adopted/`; else they are read where they lie.
    """

    wanted_name: str
    origin: Path
    value: dict[str, Any]
    snapshot: FoundSnapshot | None = None
    rows: FoundRows = field(default_factory=FoundRows)
    runs: tuple[PlannedRun, ...] = ()
    scores: Mapping[tuple[str, str], FoundScores] = field(default_factory=dict)
    mirrored: bool = False


def plan(findings: Findings, adopted: AdoptedTrees, scenes: Mapping[str, int | None]) -> list[PlannedExperiment]:
    """Every experiment that the findings amount to.

    Args:
        scenes: those on disk, each with the source camera that the registry names; None: it names none.
    """
    by_exp: dict[str, list[FoundScores]] = {}
    for found in findings.scores:
        if found.scene_name in scenes:
            by_exp.setdefault(found.exp_name, []).append(found)
        else:
            findings.complain(
                found.folder,
                f"the scene {found.scene_name} is not on disk",
                "not taken over; set THESIS_CANONICAL_GT_ROOT_DIR to where the scenes are, then adopt again",
            )
    planned = []
    for snapshot in findings.snapshots:
        experiment = _of_snapshot(snapshot, findings)
        if experiment is not None:
            of_it = by_exp.pop(snapshot.exp_name, [])
            planned.append(_with_scores(experiment, of_it, scenes, findings, adopted))
    for exp_name, scores in sorted(by_exp.items()):
        names = sorted({found.scene_name for found in scores})
        empty = PlannedExperiment(
            exp_name,
            findings.root,
            {
                "description": "Evaluated trees without the data they were tuned on.",
                "generation": {"scenes": names, "renders": {"source": "precomputed"}},
                "split": {"train_only": True},
                "evaluation_only": True,
            },
        )
        experiment = _with_scores(empty, scores, scenes, findings, adopted)
        if experiment.scores:
            planned.append(experiment)
    return planned


# --- snapshots -------------------------------------------------------------------------------------------------------


def _of_snapshot(snapshot: FoundSnapshot, findings: Findings) -> PlannedExperiment | None:
    tree = DifixTree(snapshot.folder.parent, snapshot.folder.name)
    rows = read_found_rows(tree, findings)
    if not rows.rows:
        findings.complain(snapshot.folder, "the snapshot has no usable sample", "left out")
        return None
    _name_missing_images(rows, findings)
    generation = generation_of(tree.generation_config, rows.scenes, rows.prompt, findings)
    runs = tuple(run_of(run, findings) for run in snapshot.runs)
    value: dict[str, Any] = {
        "description": f"A snapshot of {len(rows.rows)} samples that other scripts made.",
        "generation": generation.model_dump(mode="json", exclude_defaults=True),
        "split": _split(tree, rows, findings),
    }
    if runs:
        value["runs"] = {
            run.found.run_name: run.spec.model_dump(mode="json", exclude_defaults=True) | {"backend": run.spec.backend}
            for run in runs
        }
    return PlannedExperiment(snapshot.exp_name, snapshot.folder, value, snapshot, rows, runs)


def _name_missing_images(rows: FoundRows, findings: Findings) -> None:
    missing = [path for row in rows.rows for path in rows.images(row) if not path.is_file()]
    if missing:
        findings.complain(
            missing[0],
            f"{len(missing)} images of samples are missing, this one first",
            "every_sample_complete names them",
        )


def _split(tree: DifixTree, rows: FoundRows, findings: Findings) -> dict[str, Any]:
    """Named test groups as they were held out, with the reserved scenes and the group rules that are needed."""
    both = sorted(set(rows.groups("train")) & set(rows.groups("test")))
    if both:
        findings.complain(
            tree.base,
            f"people stand on both sides of the split: {', '.join(both[:5])}",
            "kept as it is, so that group_non_leakage fails; no run should be reported on it",
        )
    split: dict[str, Any] = {}
    test: dict[str, list[str]] = {}
    for group in rows.groups("test"):
        dataset, _, name = group.partition("/")
        test.setdefault(dataset, []).append(name)
    if test:
        split["test_groups"] = test
    else:
        split["train_only"] = True
    try:
        reserved = storage.read_json(tree.split_summary, SplitSummary).reserved_scenes
    except InvalidFile:  # an older summary has other keys
        reserved = []
    if reserved:
        split["reserved_scenes"] = reserved
    rules = _group_rules(rows, findings, tree)
    if rules:
        split["group_rules"] = rules
    return split


def _group_rules(rows: FoundRows, findings: Findings, tree: DifixTree) -> dict[str, str]:
    """A rule for each dataset that has none: `scene_name` where every scene is its own group."""
    rules: dict[str, str] = {}
    for dataset, scene_name, found in sorted({(row.dataset, row.scene_name, row.group_id) for row in rows.rows}):
        try:
            group = scene_name if dataset in rules else group_id(scene_name, {})
        except InvalidExperiment:
            rules[dataset] = "scene_name"
            group = scene_name
        if group != found:
            findings.complain(
                tree.base,
                f"{scene_name} is of group {found}, and by the rule of its dataset of {group}",
                "the rows keep theirs; the checks go by the rule",
            )
    return rules


# --- evaluated trees -------------------------------------------------------------------------------------------------


def _with_scores(
    experiment: PlannedExperiment,
    scores: Sequence[FoundScores],
    cameras: Mapping[str, int | None],
    findings: Findings,
    adopted: AdoptedTrees,
) -> PlannedExperiment:
    """The experiment with its `evaluation` part: the epochs and scenes that all of its runs have.

    What is damaged is declared too, so that its place on the leaderboard stays empty with the reason; where nothing is whole, nothing is.

    Args:
        cameras: the source camera by scene, where the experiment does not name one.
    """
    if not scores:
        return experiment
    named = experiment.value["generation"].get("source_camera")
    kept: dict[tuple[str, str], FoundScores] = {}
    for key, found in _unique(scores, findings):
        camera = named if isinstance(named, int) else cameras[found.scene_name]
        if camera is None:
            what = f"which camera of {found.scene_name} is the source is not known: it has no registry entry"
            findings.complain(found.folder, what, "left out; write the entry, or name the folder of the entries")
            continue
        kept[key] = replace(found, damaged=_damaged(found, camera, findings))
    if all(found.damaged.keys() == set(found.tasks) for found in kept.values()):
        return experiment
    runs = sorted({run for run, _ in kept})
    scenes = sorted(set.intersection(*({scene for of, scene in kept if of == run} for run in runs))) if runs else []
    epochs = sorted(set.intersection(*(set(found.epochs) for found in kept.values()))) if kept else []
    for (run, scene), found in kept.items():
        if scene not in scenes:
            findings.complain(
                found.folder, f"{scene} is evaluated in run {run}, and not in every run of {found.exp_name}", "left out"
            )
        for epoch in sorted(set(found.epochs) - set(epochs)):
            findings.complain(found.folder, f"epoch {epoch} is not in every scene of {found.exp_name}", "left out")
    kept = {key: _at_all(found, epochs, findings) for key, found in kept.items() if key[1] in scenes}
    scenes = [scene for scene in scenes if all(found.measured for key, found in kept.items() if key[1] == scene)]
    kept = {key: found for key, found in kept.items() if key[1] in scenes}
    if not kept:
        if runs:
            what = f"the trees of {scores[0].exp_name} share no scene and epoch"
            findings.complain(scores[0].folder, what, "not taken over")
        return experiment
    tasks = [task for task in TASKS if any(task in found.tasks for found in kept.values())]
    as_they_lie = not any(
        found.older or found.left_out or found.damaged or adopted.scores(found.exp_name, *key).base.exists()
        for key, found in kept.items()
    )
    template = common_template(kept) if as_they_lie else None
    value = dict(experiment.value)
    declared = dict(value.get("runs", {}))
    value["runs"] = declared | {
        run: {"backend": "pretrained", "model": NO_MODEL} for run in runs if run not in declared
    }
    value["evaluation"] = {
        "scenes": scenes,
        "tasks": tasks,
        "epochs": epochs,
        "predictions": {"source": "existing", "tree": template or adopted.template},
    }
    if "evaluation_only" in value:
        value["evaluation_only"] = value.pop("evaluation_only")  # last, where one looks for it
    return replace(experiment, value=value, scores=kept, mirrored=template is None)


def _damaged(found: FoundScores, source_camera: int, findings: Findings) -> dict[str, str]:
    """The tasks with files that cannot be believed at one of the epochs, each with the first of them; every one is named."""
    damaged: dict[str, str] = {}
    for epoch, task in sorted(found.measured):
        faults: dict[Path, list[str]] = {}
        for path, problem in found.faults(epoch, task, source_camera):
            faults.setdefault(path, []).append(problem)
        for path, problems in faults.items():
            what = problems[0] + (f", and {len(problems) - 1} more" if problems[1:] else "")
            remedy = f"{task} of {found.scene_name} stays empty, and so does a mean over scenes; mend the file, then adopt again"
            findings.complain(path, f"damaged: {what}", remedy, damaged=True)
            damaged.setdefault(task, f"{path} ({what})")
    return damaged


def _at_all(found: FoundScores, epochs: Sequence[int], findings: Findings) -> FoundScores:
    """Without the tasks that were not measured at every epoch that is taken over."""
    lacking = {task for task in found.tasks if any((epoch, task) not in found.measured for epoch in epochs)}
    for task in sorted(lacking):
        there = ", ".join(str(epoch) for epoch, of in sorted(found.measured) if of == task)
        findings.complain(found.folder, f"{task} was measured at the epochs {there} alone", f"{task} is left out")
    return found.without(lacking)


def _unique(scores: Sequence[FoundScores], findings: Findings) -> Iterator[tuple[tuple[str, str], FoundScores]]:
    seen: dict[tuple[str, str], FoundScores] = {}
    for found in scores:
        key = (found.run_name, found.scene_name)
        if key in seen:
            findings.complain(
                found.folder,
                f"a second tree of {found.exp_name}, {' and '.join(key)}; {seen[key].folder} is taken",
                "left out",
            )
            continue
        seen[key] = found
        yield key, found


def common_template(scores: Mapping[tuple[str, str], FoundScores]) -> str | None:
    """One path with {run_name} and {scene_name} that names every tree; None where there is none."""
    candidates = []
    for (run, scene), found in scores.items():
        parts = [
            "{scene_name}" if part == scene else "{run_name}" if part == run else part for part in found.folder.parts
        ]
        parts[-1] = parts[-1].replace(f"__{run}", "__{run_name}")
        candidates.append(os.path.join(*parts))  # noqa: PTH118 - a template, no path
    template = candidates[0]
    plain = template.replace("{scene_name}", "").replace("{run_name}", "")
    if "{" in plain or "}" in plain or any(candidate != template for candidate in candidates):
        return None
    filled = {key: template.replace("{run_name}", key[0]).replace("{scene_name}", key[1]) for key in scores}
    return template if all(filled[key] == str(found.folder) for key, found in scores.items()) else None


# --- generation_config.yaml ------------------------------------------------------------------------------------------


def generation_of(file: Path, scenes: Sequence[str], prompt: str | None, findings: Findings) -> GenerationSpec:
    """The generation section of a snapshot: ours as it is written, or what is understood of an older file."""
    understood: dict[str, Any] = {}
    if file.is_file():
        value = findings.read_yaml(file, "the defaults are written instead")
        ours = _ours(value)
        if ours is not None:
            return ours.model_copy(update={"scenes": tuple(scenes), "scenes_from": None})
        understood = _understood(value, file, findings)
    else:
        findings.complain(file, "the snapshot does not say how it was generated", "the defaults are written instead")
    if prompt is not None:
        understood.setdefault("export", {})["prompt"] = prompt
    return GenerationSpec.model_validate({"scenes": list(scenes), "renders": {"source": "precomputed"}, **understood})


def _ours(value: object) -> GenerationSpec | None:
    try:
        return GenerationSpec.model_validate(GenerationConfig.model_validate(value).generation)
    except ValidationError:
        return None  # an older file, of other keys


def _understood(value: object, file: Path, findings: Findings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unknown = []
    for key, inner in flatten(value):
        dotted = GENERATION_KEYS.get(key.rpartition(".")[2])
        if dotted is None:
            unknown.append(key)
            continue
        trial = {part: dict(values) if isinstance(values, dict) else values for part, values in found.items()}
        _set(trial, dotted, inner)
        if dotted == "target_cameras.ids":
            _set(trial, "target_cameras.mode", "explicit")
        try:
            GenerationSpec.model_validate({"scenes": ["a_b"], **trial})
        except ValidationError as error:
            findings.complain(
                file, f"`{key}`: {error.errors()[0]['msg']}, found {inner!r}", "the default is written instead"
            )
            continue
        found = trial
    if unknown:
        findings.complain(file, f"keys that are not understood: {', '.join(sorted(unknown)[:20])}", "they are left out")
    return found


def _set(target: dict[str, Any], dotted: str, value: object) -> None:
    *folders, last = dotted.split(".")
    for folder in folders:
        target = target.setdefault(folder, {})
    target[last] = value


# --- run_config.yaml -------------------------------------------------------------------------------------------------


def run_of(run: FoundRun, findings: Findings) -> PlannedRun:
    """The run as an experiment file declares it, and what its own configuration says of it."""
    for step in run.steps:
        path = run.checkpoint(step)
        if not zipfile.is_zipfile(path):
            findings.complain(path, "the checkpoint is cut short, or is none", "checkpoint_loads fails for the run")
    stated, noted = _stated(run, findings)
    spec = _backend(run, stated, findings)
    for key, value in list(stated.items()):
        if key in spec or key not in RunSpec.model_fields or value is None:
            continue
        try:
            RunSpec.model_validate({**spec, key: value})
        except ValidationError as error:
            findings.complain(
                run.config or run.folder,
                f"`{key}`: {error.errors()[0]['msg']}, found {value!r}",
                "null in train_config.json, and not in the experiment file",
            )
            stated[key] = None
            continue
        spec[key] = value
    return PlannedRun(run, RunSpec.model_validate(spec), stated, noted)


def _stated(run: FoundRun, findings: Findings) -> tuple[dict[str, Any], TrainConfig | None]:
    """What the run's configuration says, by the last word of each key; and the whole of it where this platform wrote it."""
    unknown = "what it was tuned with is null in train_config.json"
    if run.config is None:
        findings.complain(run.folder, "the run does not say with what it was tuned", unknown)
        return {}, None
    if run.config.suffix == ".json":
        try:
            ours = storage.read_json(run.config, TrainConfig)
        except InvalidFile as error:
            findings.complain(run.config, f"it cannot be read: {error.problem}", unknown)
            return {}, None
        return {**ours.flags, "backend": ours.backend, "seed": ours.seed}, ours
    value = findings.read_yaml(run.config, unknown)
    flat = dict(flatten(value, whole=("extra_args",)))
    stated: dict[str, Any] = {}
    for key, inner in flat.items():
        name = key.rpartition(".")[2]
        if isinstance(inner, str) and "${" in inner:
            try:
                inner = resolve(key, flat)
            except ValueError as error:
                findings.complain(run.config, f"`{key}` cannot be resolved: {error}", "null in train_config.json")
                inner = None
        if name == "extra_args":
            inner = _words(inner)
        if stated.get(name, inner) != inner:
            findings.complain(
                run.config, f"`{name}` stands twice: {stated[name]!r} and {inner!r}", "the first is taken"
            )
        stated.setdefault(name, inner)
    return stated, None


def _words(value: object) -> list[str] | None:
    """Further arguments as the words of a command line, whether they stand as a text, a list, or by name."""
    if isinstance(value, str):
        return shlex.split(value)
    if isinstance(value, list):
        return [str(word) for word in value]
    if isinstance(value, dict):
        given = {
            f"--{str(name).removeprefix('--')}": inner for name, inner in value.items() if inner not in (None, False)
        }
        return [word for name, inner in given.items() for word in ([name] if inner is True else [name, str(inner)])]
    return None


def _backend(run: FoundRun, stated: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """Which backend saves at these steps: the published script at 1, N+1, ...; ours at N, 2N, ... and the last."""
    steps = run.steps
    cadence, most = stated.get("checkpointing_steps"), stated.get("max_train_steps")
    seen = steps[1] - steps[0] if len(steps) > 1 else steps[0]
    every = cadence if isinstance(cadence, int) and cadence > 0 else max(1, seen)
    model = next((str(found) for key in MODEL_KEYS if (found := stated.get(key))), None)
    backends: list[dict[str, Any]] = [
        {"backend": "external", "external": {"script": str(stated.get("script") or DIFIX_SCRIPT)}},
        {"backend": "difix", "model": model or BASE_MODEL},
    ]
    if model is not None:
        backends[0]["model"] = model
    if stated.get("backend") == "tiny":  # a run of this platform, which says so itself
        backends.insert(0, {"backend": "tiny"})
    for backend in backends:
        for last in (most, steps[-1]):
            spec = backend | {"checkpointing_steps": every, "max_train_steps": last}
            if not _saves_at(spec, steps):
                continue
            if last != most and isinstance(most, int):
                findings.complain(
                    run.config or run.folder,
                    f"max_train_steps is {most}, and the last checkpoint is of step {steps[-1]}",
                    f"train_config.json says {most}; the experiment file {steps[-1]}, so that no checkpoint is awaited",
                )
            return spec
    findings.complain(
        run.folder,
        f"no trainer saves at the steps {', '.join(map(str, steps[:8]))}",
        f"the last checkpoint, {steps[-1]}, is taken as a run that trains nothing (`pretrained`, step 0)",
    )
    return {"backend": "pretrained", "model": str(run.checkpoint(steps[-1]))}


def _saves_at(spec: Mapping[str, Any], steps: Sequence[int]) -> bool:
    try:
        return tuple(RunSpec.model_validate(spec).saved_steps()) == tuple(steps)
    except ValidationError:  # the configuration has a value that no run may have
        return False


# --- the rows of a snapshot: today's eleven keys, or the older twelve with `split` and `rcam` in the ids -------------


def read_found_rows(tree: DifixTree, findings: Findings) -> FoundRows:
    """Every usable row of a snapshot, and on which side of its split it stands; what is not usable is named.

    Rows come from `all_samples.jsonl`, else from the split's manifests, else from each sample's `meta.json`. The side comes from the
    split's manifests, else from the row itself, else from `data.json`; a row without one is held out, where it can do no harm.
    """
    found = FoundRows()
    problems: dict[tuple[str, str], list[str]] = {}
    first: dict[str, tuple[str, SampleRow]] = {}
    stands: set[tuple[Path, str]] = set()
    for raw, side, path in _raw_rows(tree, findings):
        row = _row(raw, problems)
        if row is None:
            continue
        if (path, row.sample_id) in stands:
            problems.setdefault((f"{path.name} has the sample twice", "taken once"), []).append(row.sample_id)
        stands.add((path, row.sample_id))
        if row.sample_id in found.folders:
            for said in _disagreements(row, *first[row.sample_id], path.name, side, found.split.get(row.sample_id)):
                problems.setdefault(said, []).append(row.sample_id)
            if side:
                found.split.setdefault(row.sample_id, side)
            continue
        first[row.sample_id] = (path.name, row)
        found.rows.append(row)
        found.folders[row.sample_id] = tree.samples_dir / str(raw["sample_id"])
        if side or raw.get("split") in ("train", "test"):
            found.split[row.sample_id] = side or raw["split"]
    found.rows.sort(key=lambda row: row.sample_id)
    _sides_of_data_json(tree, found, findings)
    for (problem, remedy), names in problems.items():
        findings.complain(tree.base, f"{problem}: {len(names)} rows, such as {', '.join(names[:MAX_NAMED])}", remedy)
    without = [row.sample_id for row in found.rows if row.sample_id not in found.split]
    if without:
        findings.complain(
            tree.base, f"{len(without)} samples are on no side of the split, such as {without[0]}", "they are held out"
        )
        found.split |= dict.fromkeys(without, "test")
    return found


def _disagreements(
    row: SampleRow, first: str, taken: SampleRow, file: str, side: str | None, side_taken: str | None
) -> Iterator[tuple[str, str]]:
    """What a second row of a sample says otherwise, and what is done about it."""
    if row.group_id != taken.group_id:
        yield (
            f"group_id is {taken.group_id} in {first}, and {row.group_id} in {file}",
            f"{taken.group_id} is taken; check that no people stand on both sides",
        )
    if side and side_taken and side != side_taken:
        yield f"the sample is in {first} and in {file}", f"taken as {side_taken}"


def _row(raw: Any, problems: dict[tuple[str, str], list[str]]) -> SampleRow | None:
    def note(problem: str, remedy: str) -> None:
        problems.setdefault((problem, remedy), []).append(ascii(str(name))[:120])

    name = raw.get("sample_id") if isinstance(raw, dict) else None
    try:
        sample = SampleId.parse(str(name), accept_older=True)
        dataset_of(sample.scene_name)
    except InvalidKey:
        note("no sample id", "left out")
        return None
    if str(sample) != name:
        note("the id has the older form (rcam)", "written as rccam")
    group = raw.get("group_id")
    try:
        group = check_key(group, "group_id") if isinstance(group, str) else ""
    except InvalidKey:
        group = ""
    if not group:
        note("no group_id", "the scene's name is its group; check that no people stand on both sides")
    row = row_of(sample, group or sample.scene_name)
    ids = ("scene_name", "target_cam_id", "reference_cam_id", "target_fname", "reference_fname")
    if any(key in raw and raw[key] != getattr(row, key) for key in ids):
        note("the ids of the row are not those in its sample_id", "the ones in sample_id are taken")
    return row


def _raw_rows(tree: DifixTree, findings: Findings) -> Iterator[tuple[Any, str | None, Path]]:
    """Rows as they are written, with the side that the file they stand in says, and that file."""
    manifests = [(tree.split_train, "train"), (tree.split_test, "test"), (tree.all_samples, None)]
    read = False
    for path, side in manifests:
        if path.is_file():
            try:
                for raw in storage.read_jsonl(path):
                    read = True
                    yield raw, side, path
            except InvalidFile as error:
                findings.complain(path, f"{error.problem} ({error.key})", "what stands before it is taken")
    if read:
        return
    findings.complain(tree.manifests_dir, "there are no manifests", "rows are taken from the samples' own meta.json")
    for folder in sorted(tree.samples_dir.iterdir()):
        path = folder / "meta.json"
        try:
            yield storage.read_json_value(path, max_bytes=MAX_META_BYTES), None, path
        except InvalidFile as error:
            findings.complain(path, error.problem, "the sample is left out")


def _sides_of_data_json(tree: DifixTree, found: FoundRows, findings: Findings) -> None:
    """The prompt, and the side of rows that no manifest has."""
    if not tree.data_json.is_file():
        return
    try:
        value = storage.read_json_value(tree.data_json, max_bytes=2**31)
    except InvalidFile as error:
        findings.complain(tree.data_json, error.problem, "it is written anew")
        return
    by_older = {folder.name: sample_id for sample_id, folder in found.folders.items()}
    for side in ("train", "test"):
        entries = value.get(side) if isinstance(value, dict) else None
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            sample_id = by_older.get(name, name)
            if sample_id in found.folders:
                found.split.setdefault(sample_id, side)
            if found.prompt is None and isinstance(entry, dict) and isinstance(entry.get("prompt"), str):
                found.prompt = entry["prompt"]
