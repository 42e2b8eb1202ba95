"""Finding what is below a folder: trees of both documents, the older ones, and the older `paths.yaml`; and what is wrong with them. Reads, never writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey
from thesis_assets.evaluation.metric_tables import older_faults, task_faults
from thesis_assets.experiments.reading import read_yaml
from thesis_assets.layout import (
    OUTPUT_LAYOUT_VERSION,
    TASKS,
    DifixTree,
    EvaluationTree,
    TaskTree,
    TuningRunTree,
    check_frame,
    check_key,
    dataset_of,
    epoch_name,
    parse_checkpoint_step,
    parse_epoch,
)
from thesis_assets.schemas.scenes import SceneRegistryEntry

PASSED_OVER = {".git", ".venv", "wandb", "node_modules", "__pycache__", "site-packages"}
MAX_SCENE_FILE_BYTES = 1024 * 1024
ADOPTED = "adopted"
"""The run's name where a tree does not say which run it is of."""
_OLDER_EPOCH = re.compile(r"epoch[_-]?0*(\d{1,9})", re.ASCII)
_CAMERA = re.compile(r"cam_(\d{1,9})", re.ASCII)
NO_EPOCH = 1
"""Stands for the epoch of an older tree that names none: 0 would say that nothing was refined."""
_REFERENCE = re.compile(r"\$\{([^${}]+)\}")
MAX_REFERENCES = 50

SETTINGS = (
    "THESIS_DIFIX_DATA_ROOT_DIR",
    "THESIS_RESULTS_ROOT_DIR",
    "THESIS_PREPROCESSING_ROOT_DIR",
    "THESIS_CANONICAL_GT_ROOT_DIR",
    "THESIS_HF_CACHE_DIR",
    "THESIS_WANDB_ROOT_DIR",
    "THESIS_HYDRA_ROOT_DIR",
    "THESIS_CONDA_ENV",
    "THESIS_SCENE_REGISTRY_DIR",
    "THESIS_RENDERS_ROOT_DIR",
    "HF_RERUN_REPO_ID",
)


@dataclass(frozen=True)
class Complaint:
    """Something that is not as it should be, where, and what was done about it or is left to do.

    Attributes:
        damaged: whether numbers were left out because their files cannot be believed.
    """

    place: Path
    problem: str
    remedy: str
    damaged: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.remedy}"


@dataclass(frozen=True)
class FoundRun:
    """A folder of `tuning_runs/`. `config`: its `meta/run_config.yaml` or `train_config.json`, where there is one."""

    folder: Path
    run_name: str
    steps: tuple[int, ...]
    config: Path | None

    def checkpoint(self, step: int) -> Path:
        return TuningRunTree(self.folder).checkpoint(step)


@dataclass(frozen=True)
class FoundSnapshot:
    """A tree of the data document, of today's form or the older one (`rcam` ids, rows with `split`)."""

    folder: Path
    exp_name: str
    runs: tuple[FoundRun, ...]


@dataclass(frozen=True)
class FoundScores:
    """One evaluated scene.

    Attributes:
        folder: the tree itself: `<output_dir>/<exp_name>`, or of the older forms `<scene>/evaluation/<exp>` and `<scene>/<exp>`.
        run_name: empty where nothing but a folder's name could tell it.
        measured: the (epoch, task) that have a folder or a file.
        older: whether it is of a form without the document's folders of tasks.
        left_out: tasks that lie there and are not taken over.
        damaged: by task a file that cannot be believed, and what is wrong with it.
        files: by (epoch, task): the metric files by name, for the older forms; empty for the document's.
        pictures: older pictures of what was measured, by (epoch, camera, frame).
    """

    folder: Path
    exp_name: str
    run_name: str
    scene_name: str
    measured: frozenset[tuple[int, str]]
    older: bool
    files: dict[tuple[int, str], dict[str, Path]] = field(default_factory=dict, hash=False, compare=False)
    pictures: dict[tuple[int, int, str], Path] = field(default_factory=dict, hash=False, compare=False)
    left_out: frozenset[str] = frozenset()
    damaged: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    def without(self, tasks: Set[str]) -> FoundScores:
        """The tree without some of its tasks."""
        measured = frozenset(key for key in self.measured if key[1] not in tasks)
        return replace(self, measured=measured, left_out=self.left_out | tasks)

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(sorted({epoch for epoch, _ in self.measured}))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task in TASKS if any(task == of for _, of in self.measured))

    def faults(self, epoch: int, task: str, source_camera: int | None) -> list[tuple[Path, str]]:
        """The metric files of a task that cannot be read, or do not agree with each other, each with what is wrong."""
        place = EvaluationTree(self.folder.parent, self.folder.name).task(epoch, task)
        if not self.older and place.protocol.is_file():
            return task_faults(place)
        return older_faults(place, source_camera, self.files.get((epoch, task)))


@dataclass
class Findings:
    """Everything found below one folder."""

    root: Path
    snapshots: list[FoundSnapshot] = field(default_factory=list)
    scores: list[FoundScores] = field(default_factory=list)
    configurations: dict[Path, dict[str, str]] = field(default_factory=dict)
    """Of each `configs/paths.yaml`, its references resolved: values by the names of our settings."""
    scene_files: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    """By folder the scenes that its JSON files describe: the registry first, then subsets of it."""
    complaints: list[Complaint] = field(default_factory=list)

    def complain(self, place: Path, problem: str, remedy: str, *, damaged: bool = False) -> None:
        self.complaints.append(Complaint(place, problem, remedy, damaged))

    def read_yaml(self, file: Path, remedy: str) -> object:
        """The value of a YAML file; an empty mapping where it cannot be read, which is complained of."""
        try:
            return read_yaml(file)[0]
        except InvalidExperiment as error:
            self.complain(file, f"it cannot be read: {error.problem}", remedy)
            return {}

    @property
    def is_empty(self) -> bool:
        return not (self.snapshots or self.scores or self.configurations or self.scene_files)


def scan(root: Path) -> Findings:
    """Look through a folder. What is recognised is not searched further.

    Links to folders are followed, each folder once, but for those that lead to where they are from; links that lead nowhere are
    named.

    Raises:
        InvalidFile: there is no such folder.
    """
    if not root.is_dir():
        raise InvalidFile("there is no such folder to adopt", file=root)
    findings = Findings(root.resolve())
    for folder, folders, names in walk(findings.root, findings):
        folders[:] = [name for name in folders if name not in PASSED_OVER and not name.startswith(".")]
        if folder.name and "samples" in folders and {"manifests", "difix", "tuning_runs", "meta"} & set(folders):
            findings.snapshots += _snapshot(folder, findings)
            folders.clear()
        elif _is_tree(folder, folders, names):
            findings.scores += tree_scores(folder, findings)
            folders.clear()
        elif folder.name == "evaluation":
            for name in folders:
                findings.scores += older_scores(folder / name, folder.parent.name, findings)
            folders.clear()
        elif {"images", "all_cameras"} <= set(folders):
            # A scene's own folder: the catalog reads it. What was evaluated of it may lie there too.
            folders[:] = [name for name in folders if name == "evaluation" or (folder / name / "evaluation").is_dir()]
        else:
            _note_configuration(folder, names, findings)
    findings.scores = _with_runs(findings.scores)
    if findings.scene_files:
        _name_subsets(findings)
    return findings


def walk(root: Path, findings: Findings) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, links to folders followed, each folder once, so that a circle of links ends. Links that lead nowhere are named."""
    real_root = root.resolve()
    seen: dict[Path, Path] = {}
    for current, folders, names in os.walk(root, followlinks=True):
        folder = Path(current)
        real = folder.resolve()
        if real in seen or (real != real_root and real_root.is_relative_to(real)):
            what = f"the folder {seen[real]} once more" if real in seen else f"a link to {real}, which it lies in"
            findings.complain(folder, what, "not looked through")
            folders.clear()
            continue
        seen[real] = folder
        folders.sort(key=lambda name: ((folder / name).is_symlink(), name))
        dead = [path for name in sorted(names) if (path := folder / name).is_symlink() and not path.exists()]
        if dead:
            what = f"a link that leads nowhere: {dead[0].readlink()}"
            others = f", and {len(dead) - 1} more beside it" if len(dead) > 1 else ""
            findings.complain(dead[0], what + others, "left out")
        yield folder, folders, sorted(names)


def _with_runs(scores: Iterable[FoundScores]) -> list[FoundScores]:
    """Trees that do not say which run they are of: the folder above their scenes' names it, where there are several such folders."""
    found = list(scores)
    above: dict[str, set[Path]] = {}
    for each in found:
        if not each.run_name and each.folder.parent.name == each.scene_name:
            above.setdefault(each.exp_name, set()).add(each.folder.parent.parent)

    def run_of(each: FoundScores) -> str:
        folder = each.folder.parent.parent
        is_run = len(above.get(each.exp_name, ())) > 1 and folder in above[each.exp_name]
        return folder.name if is_run and _passes(lambda name: check_key(name, "run_name"), folder.name) else ADOPTED

    return [each if each.run_name else replace(each, run_name=run_of(each)) for each in found]


def _is_tree(folder: Path, folders: list[str], names: list[str]) -> bool:
    if "evaluation" not in folders:
        return False
    if "manifest.json" in names:
        return True
    return any(path.name.startswith("epoch_") for path in (folder / "evaluation").iterdir())


def _snapshot(folder: Path, findings: Findings) -> Iterator[FoundSnapshot]:
    try:
        name = check_key(folder.name, "exp_name")
    except InvalidKey as error:
        findings.complain(folder, f"the snapshot's name is no experiment's: {error.found}", "rename the folder first")
        return
    yield FoundSnapshot(folder, name, tuple(_runs(DifixTree(folder.parent, name), findings)))


def _runs(tree: DifixTree, findings: Findings) -> Iterator[FoundRun]:
    if not tree.tuning_runs_dir.is_dir():
        return
    for folder in sorted(path for path in tree.tuning_runs_dir.iterdir() if path.is_dir()):
        try:
            run = tree.tuning_run(folder.name)
        except InvalidKey as error:
            findings.complain(folder, f"the run's name is no run's: {error.found}", "left out; rename the folder first")
            continue
        names = [path.name for path in run.checkpoints_dir.iterdir()] if run.checkpoints_dir.is_dir() else []
        steps = sorted(step for name in names if (step := parse_checkpoint_step(name)) is not None)
        if not steps:
            findings.complain(folder, "the run has no checkpoints/model_<step>.pkl", "left out")
            continue
        configs = (run.base / "meta" / "run_config.yaml", run.train_config)
        yield FoundRun(folder, folder.name, tuple(steps), next((path for path in configs if path.is_file()), None))


def _note_configuration(folder: Path, names: list[str], findings: Findings) -> None:
    if "paths.yaml" in names:
        _read_paths(folder / "paths.yaml", findings)
    problems = {path: _no_scene(path) for name in names if (path := folder / name).suffix == ".json" and path.exists()}
    scenes = [path.stem for path, problem in problems.items() if problem is None]
    if not scenes and not folder.name.startswith("scenes"):
        return  # JSON files of something else
    for path, problem in problems.items():
        if problem is not None:
            findings.complain(path, f"it is no scene's file: {problem}", "left out, the others are taken; mend it")
    if scenes:
        findings.scene_files[folder] = tuple(scenes)


def _no_scene(path: Path) -> str | None:
    """Why a JSON file is no entry of the scene registry; None where it is one."""
    try:
        dataset_of(path.stem)
        storage.read_json(path, SceneRegistryEntry, max_bytes=MAX_SCENE_FILE_BYTES)
    except (InvalidFile, InvalidKey) as error:
        told = [f"{name} {value}" for name in ("key", "found") if (value := getattr(error, name)) is not None]
        return f"{error.problem} ({', '.join(told)})" if told else error.problem
    except OSError as error:
        return str(error)
    return None


def _name_subsets(findings: Findings) -> None:
    """The folder with most scenes first: that is the registry, the others are choices from it."""
    registry, *subsets = sorted(findings.scene_files.items(), key=lambda each: (-len(each[1]), str(each[0])))
    findings.scene_files = dict([registry, *subsets])
    for folder, scenes in subsets:
        beyond = sorted(set(scenes) - set(registry[1]))
        if beyond:
            findings.complain(
                folder,
                f"{len(beyond)} scenes are not in {registry[0]}: {', '.join(beyond[:3])}",
                "bring their files into one folder and name it in THESIS_SCENE_REGISTRY_DIR",
            )


# --- evaluated scenes: trees with `evaluation/epoch_XXXX/`, with folders of tasks or without ------------------------


def tree_scores(folder: Path, findings: Findings) -> Iterator[FoundScores]:
    """A tree of the output document, whatever wrote it; or of the form before, whose epochs have no folders of tasks."""
    tree = EvaluationTree(folder.parent, folder.name)
    has_tasks = any(path.name in TASKS for path in tree.evaluation_dir.glob("*/*/"))
    manifest = _manifest(folder, findings) if has_tasks or tree.manifest.exists() else {}
    exp, _, run_of_name = folder.name.partition("__")
    notes = manifest.get("notes")
    run = notes.get("run_name") if isinstance(notes, dict) else None
    scene = manifest.get("scene_name") or next(
        (above.name for above in (folder.parent, folder.parent.parent) if _passes(dataset_of, above.name)), None
    )
    if not isinstance(scene, str):
        findings.complain(folder, "no scene's name in the tree, or above it", "left out; write it into manifest.json")
        return
    run_name = str(run or run_of_name)
    if not has_tasks:
        exp_name = str(manifest.get("exp_name") or exp)
        yield from _older(tree.evaluation_dir, folder, (exp_name, run_name or ADOPTED, scene), findings)
        return
    found = _checked(folder, str(manifest.get("exp_name") or exp), run_name, scene, findings)
    if found is None:
        return
    epochs = _document_epochs(tree, findings)
    measured = frozenset((epoch, task) for epoch in epochs for task in TASKS if tree.task(epoch, task).base.is_dir())
    said = manifest.get("eval_epochs")
    if isinstance(said, list) and sorted(map(str, said)) != [epoch_name(epoch) for epoch in epochs]:
        findings.complain(
            tree.manifest,
            f"eval_epochs says {', '.join(map(str, said))}",
            f"on disk are {', '.join(map(epoch_name, epochs))}",
        )
    for _ in walk(tree.evaluation_dir, findings):
        pass  # names links that lead nowhere
    if measured:
        yield FoundScores(folder, *found, measured, older=False)


def _document_epochs(tree: EvaluationTree, findings: Findings) -> list[int]:
    epochs = []
    for path in sorted(path for path in tree.evaluation_dir.iterdir() if path.is_dir()):
        try:
            epochs.append(parse_epoch(path.name))
        except InvalidKey:
            findings.complain(path, "not an epoch's folder", "left out; rename it to epoch_XXXX")
    return epochs


def _manifest(folder: Path, findings: Findings) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        value = storage.read_json_value(path)
    except InvalidFile as error:
        findings.complain(path, error.problem, "names are taken from the folders")
        return {}
    if not isinstance(value, dict) or value.get("output_layout_version") != OUTPUT_LAYOUT_VERSION:
        findings.complain(path, f"output_layout_version is not {OUTPUT_LAYOUT_VERSION}", "read as if it were")
    return value if isinstance(value, dict) else {}


def _checked(
    folder: Path, exp_name: str, run_name: str, scene_name: str, findings: Findings
) -> tuple[str, str, str] | None:
    try:
        dataset_of(scene_name)
        check_key(run_name or ADOPTED, "run_name")
        return check_key(exp_name, "exp_name"), run_name, check_key(scene_name, "scene_name")
    except InvalidKey as error:
        findings.complain(folder, f"{error.problem}: {error.key} {error.found}", "left out; rename it first")
        return None


# --- the older forms: metric files by their names, in whatever folders -----------------------------------------------


def older_scores(folder: Path, scene_name: str, findings: Findings) -> Iterator[FoundScores]:
    """`<scene>/evaluation/<exp>/`, or `<exp>__<run>`."""
    exp_name, _, run_name = folder.name.partition("__")
    yield from _older(folder, folder, (exp_name, run_name or ADOPTED, scene_name), findings)


def _older(place: Path, folder: Path, names: tuple[str, str, str], findings: Findings) -> Iterator[FoundScores]:
    found = _checked(folder, *names, findings)
    if found is None:
        return
    files, pictures = _older_files(place, findings)
    if not files:
        findings.complain(folder, "there are no metric files in it", "left out")
        return
    kept = {key: path for key, path in pictures.items() if key[0] in {epoch for epoch, _ in files}}
    yield FoundScores(folder, *found, frozenset(files), older=True, files=files, pictures=kept)


def _older_files(
    folder: Path, findings: Findings
) -> tuple[dict[tuple[int, str], dict[str, Path]], dict[tuple[int, int, str], Path]]:
    """Metric files by (epoch, task) and name, each that a task must have, whether or not it is there; and the pictures."""
    tasks_of = {path.name: task for task in TASKS for path in TaskTree(Path(), task).required_files}
    files: dict[tuple[int, str], dict[str, Path]] = {}
    pictures: dict[tuple[int, int, str], Path] = {}
    without_epoch = False
    for place, folders, names in walk(folder, findings):
        wrong = [name for name in folders if name.lower().startswith("epoch") and not _OLDER_EPOCH.fullmatch(name)]
        for name in wrong:
            findings.complain(place / name, "not an epoch's folder", "left out; rename it to epoch_XXXX")
            folders.remove(name)
        parts = place.relative_to(folder).parts
        matches = [match for part in parts if (match := _OLDER_EPOCH.fullmatch(part))]
        epoch = int(matches[-1][1]) if matches else None
        for name in names:
            camera = _CAMERA.fullmatch(place.parent.name) if place.name == "metrics_input" else None
            if name in tasks_of:
                without_epoch |= epoch is None
                of_task = files.setdefault((NO_EPOCH if epoch is None else epoch, tasks_of[name]), {})
                if name in of_task:
                    findings.complain(place / name, f"a second one of its name; {of_task[name]} is taken", "left out")
                of_task.setdefault(name, place / name)
            elif camera and name.endswith(".jpg") and _passes(check_frame, Path(name).stem):
                pictures[NO_EPOCH if epoch is None else epoch, int(camera[1]), Path(name).stem] = place / name
    if without_epoch:
        findings.complain(folder, "the files are in no epoch's folder", f"they enter as {epoch_name(NO_EPOCH)}")
    for (_, task), named in files.items():
        beside = next(iter(named.values())).parent
        for path in TaskTree(Path(), task).required_files:
            named.setdefault(path.name, beside / path.name)
    return files, pictures


def _passes(check: Callable[[str], str], name: str) -> bool:
    try:
        check(name)
    except InvalidKey:
        return False
    return True


# --- paths.yaml ------------------------------------------------------------------------------------------------------


def _read_paths(file: Path, findings: Findings) -> None:
    """The roots of a `paths.yaml` by the names of our settings."""
    flat = dict(flatten(findings.read_yaml(file, "no settings are taken from it")))
    found: dict[str, str] = {}
    for key in flat:
        last = _bare(key.rpartition(".")[2])  # of `paths.results_root_dir`, `results_root` or `THESIS_RESULTS_ROOT_DIR`
        name = next((name for name in SETTINGS if _bare(name) == last), None)
        if name is None:
            continue
        try:
            found.setdefault(name, resolve(key, flat))
        except ValueError as error:
            findings.complain(file, f"`{key}` cannot be resolved: {error}", f"write {name} into .env by hand")
    if found:
        findings.configurations[file] = found


def _bare(name: str) -> str:
    words = name.lower().removeprefix("thesis_").split("_")
    return "_".join(word for word in words if word not in ("root", "dir", "path"))


def flatten(value: object, prefix: str = "", whole: Collection[str] = ()) -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings by their dotted keys.

    Args:
        whole: names of mappings that are one value.
    """
    if isinstance(value, dict) and prefix[:-1].rpartition(".")[2] not in whole:
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}{key}.", whole)
    else:
        yield prefix[:-1], value


def resolve(key: str, values: Mapping[str, object]) -> str:
    """The text of a key with every `${}` filled: a key of the file (`${root}`, `${a.b}`), or `${oc.env:NAME}` with or without a default.

    Raises:
        ValueError: a reference leads nowhere, or in a circle.
    """
    text = str(values[key])
    for _ in range(MAX_REFERENCES):
        match = _REFERENCE.search(text)
        if match is None:
            return text
        text = text[: match.start()] + _referred(match[1].strip(), key, values) + text[match.end() :]
    raise ValueError(f"its references lead in a circle: {values[key]}")


def _referred(name: str, key: str, values: Mapping[str, object]) -> str:
    kind, colon, rest = name.partition(":")
    if colon and kind in ("oc.env", "env"):
        variable, _, default = rest.partition(",")
        value = os.environ.get(variable.strip(), default.strip() or None)
        if value is None:
            raise ValueError(f"the environment has no {variable.strip()}")
        return value
    section = key.rpartition(".")[0]
    for place in (name, f"{section}.{name}" if section else name):
        if place in values:
            return str(values[place])
    raise ValueError(f"there is no `{name}` in the file")
