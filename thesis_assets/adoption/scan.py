"""Finding what is below a folder: trees of both documents, the older ones, and the older `paths.yaml`; and what is wrong with them. Reads, never writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey
from thesis_assets.evaluation.metric_tables import first_columns
from thesis_assets.experiments.reading import read_yaml
from thesis_assets.layout import (
    OUTPUT_LAYOUT_VERSION,
    TASKS,
    DifixTree,
    EvaluationTree,
    TaskTree,
    check_frame,
    check_key,
    dataset_of,
    epoch_name,
    parse_checkpoint_step,
    parse_epoch,
)

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
    """Something that is not as it should be, where, and what was done about it or is left to do."""

    place: Path
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.remedy}"


@dataclass(frozen=True)
class FoundRun:
    """A folder of `tuning_runs/`. `config`: its `meta/run_config.yaml` or `train_config.json`, where there is one."""

    folder: Path
    run_name: str
    steps: tuple[int, ...]
    config: Path | None


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
        folder: the tree itself (`<output_dir>/<exp_name>`, or `<scene>/evaluation/<exp>` of the older form).
        files: by (epoch, task): the metric files by name, for the older form; empty for the document's.
        pictures: older pictures of what was measured, by (epoch, camera, frame).
    """

    folder: Path
    exp_name: str
    run_name: str
    scene_name: str
    epochs: tuple[int, ...]
    tasks: tuple[str, ...]
    older: bool
    files: dict[tuple[int, str], dict[str, Path]] = field(default_factory=dict, hash=False, compare=False)
    pictures: dict[tuple[int, int, str], Path] = field(default_factory=dict, hash=False, compare=False)


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

    def complain(self, place: Path, problem: str, remedy: str) -> None:
        self.complaints.append(Complaint(place, problem, remedy))

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
    """Look through a folder. Links to folders are not followed; what is recognised is not searched further.

    Raises:
        InvalidFile: there is no such folder.
    """
    if not root.is_dir():
        raise InvalidFile("there is no such folder to adopt", file=root)
    findings = Findings(root.resolve())
    for current, folders, names in os.walk(findings.root):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER and not name.startswith("."))
        folder = Path(current)
        if folder.name and "samples" in folders and {"manifests", "difix", "tuning_runs", "meta"} & set(folders):
            findings.snapshots += _snapshot(folder, findings)
            folders.clear()
        elif _is_document_tree(folder, folders, names):
            findings.scores += document_scores(folder, findings)
            folders.clear()
        elif folder.name == "evaluation":
            findings.scores += older_scores(folder, folders, findings)
            folders.clear()
        elif {"images", "all_cameras"} <= set(folders):
            folders.clear()  # A scene's own folder: the catalog reads it.
            if (folder / "evaluation").is_dir():
                folders.append("evaluation")
        else:
            _note_configuration(folder, names, findings)
    if findings.scene_files:
        _name_subsets(findings)
    return findings


def _is_document_tree(folder: Path, folders: list[str], names: list[str]) -> bool:
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
    scenes = [Path(name).stem for name in names if name.endswith(".json") and _is_scene_file(folder / name)]
    if scenes:
        findings.scene_files[folder] = tuple(sorted(scenes))


def _is_scene_file(path: Path) -> bool:
    """A file of the scene registry: it names its sequence and the source camera."""
    try:
        value = storage.read_json_value(path, max_bytes=MAX_SCENE_FILE_BYTES)
        dataset_of(path.stem)
    except (InvalidFile, InvalidKey, OSError):
        return False
    return isinstance(value, dict) and {"seq_name", "cam_id"} <= value.keys()


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


# --- evaluated scenes: the document's own trees, whatever wrote them -------------------------------------------------


def document_scores(folder: Path, findings: Findings) -> Iterator[FoundScores]:
    """A tree of the output document, whatever wrote it."""
    manifest = _manifest(folder, findings)
    epochs = []
    for path in sorted((folder / "evaluation").iterdir()):
        try:
            epochs.append(parse_epoch(path.name))
        except InvalidKey:
            findings.complain(path, "not an epoch's folder", "left out")
    exp, _, run_of_name = folder.name.partition("__")
    notes = manifest.get("notes")
    run = notes.get("run_name") if isinstance(notes, dict) else None
    scene = manifest.get("scene_name") or next(
        (above.name for above in (folder.parent, folder.parent.parent) if _passes(dataset_of, above.name)), None
    )
    if not isinstance(scene, str) or not epochs:
        findings.complain(
            folder, "no scene's name, or no epoch, in the tree", "left out; write both into manifest.json"
        )
        return
    named = folder.parent.parent.name if folder.parent.name == scene else ""
    exp_name = str(manifest.get("exp_name") or exp)
    found = _checked(folder, exp_name, str(run or run_of_name or named or ADOPTED), scene, findings)
    if found is None:
        return
    tree = EvaluationTree(folder.parent, folder.name)
    tasks = tuple(task for task in TASKS if any(tree.task(epoch, task).base.is_dir() for epoch in epochs))
    said = manifest.get("eval_epochs")
    if isinstance(said, list) and sorted(said) != [epoch_name(epoch) for epoch in epochs]:
        findings.complain(
            tree.manifest,
            f"eval_epochs says {', '.join(map(str, said))}",
            f"on disk are {', '.join(map(epoch_name, epochs))}",
        )
    for each in (tree.task(epoch, task) for epoch in epochs for task in tasks):
        for path in each.required_files if each.base.is_dir() else ():
            if not path.is_file():
                findings.complain(
                    path, "a required file is missing", "the scene's evaluation cannot be taken over until it is there"
                )
    yield FoundScores(folder, *found, tuple(epochs), tasks, older=False)


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
        return check_key(exp_name, "exp_name"), check_key(run_name, "run_name"), check_key(scene_name, "scene_name")
    except InvalidKey as error:
        findings.complain(folder, f"{error.problem}: {error.key} {error.found}", "left out; rename it first")
        return None


# --- the older form: <scene>/evaluation/<exp>/... --------------------------------------------------------------------


def older_scores(folder: Path, names: Sequence[str], findings: Findings) -> Iterator[FoundScores]:
    """Every experiment below `<scene>/evaluation/`: its metric files by name, in whatever folders they lie."""
    for name in names:
        found = _checked(
            folder / name, name.partition("__")[0], name.partition("__")[2] or ADOPTED, folder.parent.name, findings
        )
        if found is None:
            continue
        files, pictures = _older_files(folder / name, findings)
        complete = {key: named for key, named in files.items() if _is_complete(folder / name, *key, named, findings)}
        if not complete:
            findings.complain(folder / name, "there are no whole metric files in it", "left out")
            continue
        epochs = tuple(sorted({epoch for epoch, _ in complete}))
        tasks = tuple(task for task in TASKS if any(task == of for _, of in complete))
        kept = {key: path for key, path in pictures.items() if key[0] in epochs}
        yield FoundScores(folder / name, *found, epochs, tasks, older=True, files=complete, pictures=kept)


def _older_files(
    folder: Path, findings: Findings
) -> tuple[dict[tuple[int, str], dict[str, Path]], dict[tuple[int, int, str], Path]]:
    tasks_of = {path.name: task for task in TASKS for path in TaskTree(Path(), task).required_files}
    files: dict[tuple[int, str], dict[str, Path]] = {}
    pictures: dict[tuple[int, int, str], Path] = {}
    without_epoch = False
    for current, folders, names in os.walk(folder):
        folders.sort()
        place = Path(current)
        matches = [match for part in place.relative_to(folder).parts if (match := _OLDER_EPOCH.fullmatch(part))]
        epoch = int(matches[-1][1]) if matches else None
        for name in sorted(names):
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
    return files, pictures


def _passes(check: Callable[[str], str], name: str) -> bool:
    try:
        check(name)
    except InvalidKey:
        return False
    return True


def _is_complete(folder: Path, epoch: int, task: str, named: dict[str, Path], findings: Findings) -> bool:
    wanted = [path.name for path in TaskTree(Path(), task).required_files]
    missing = [name for name in wanted if name not in named]
    if missing:
        findings.complain(folder, f"{task} of {epoch_name(epoch)} lacks {', '.join(missing)}", "left out")
        return False
    table = named[wanted[-1]]
    leading = (
        ("camera_id", "frame_id", "psnr", "ssim", "lpips")
        if task == "nvs"
        else ("frame_id", "rr_mpjpe_mm", "rr_mve_mm", "cd_mm", "pcdr")
    )
    try:
        columns = first_columns(table)
    except InvalidFile as error:
        findings.complain(table, error.problem, "left out")
        return False
    if columns[: len(leading)] != leading:
        findings.complain(
            table, f"its columns are {','.join(columns)[:120]}", f"left out; wanted {','.join(leading)} first"
        )
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


def flatten(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings by their dotted keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}{key}.")
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
