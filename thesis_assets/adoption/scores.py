"""Evaluated scenes that others left: recognising them, and bringing the older form under the names of the output document.

The document's own trees stay where they are; an older one gets a tree of hard links beside our data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.adoption.findings import Findings, FoundScores
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.evaluation.metric_tables import first_columns
from thesis_assets.layout import (
    OUTPUT_LAYOUT_VERSION,
    TASKS,
    EvaluationTree,
    TaskTree,
    check_frame,
    check_key,
    dataset_of,
    epoch_name,
    parse_epoch,
)

ADOPTED = "adopted"
"""The run's name where a tree does not say which run it is of."""
_OLDER_EPOCH = re.compile(r"epoch[_-]?0*(\d{1,9})", re.ASCII)
_CAMERA = re.compile(r"cam_(\d{1,9})", re.ASCII)
NO_EPOCH = 1
"""Stands for the epoch of an older tree that names none: 0 would say that nothing was refined."""


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
    scene = manifest.get("scene_name") or _scene_above(folder)
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
    for epoch in epochs:
        for task in tasks:
            _note_missing(tree.task(epoch, task), findings)
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


def _scene_above(folder: Path) -> str | None:
    """The nearest folder above whose name may be a scene's."""
    for parent in (folder.parent, folder.parent.parent):
        try:
            dataset_of(parent.name)
        except InvalidKey:
            continue
        return parent.name
    return None


def _checked(
    folder: Path, exp_name: str, run_name: str, scene_name: str, findings: Findings
) -> tuple[str, str, str] | None:
    try:
        dataset_of(scene_name)
        return check_key(exp_name, "exp_name"), check_key(run_name, "run_name"), check_key(scene_name, "scene_name")
    except InvalidKey as error:
        findings.complain(folder, f"{error.problem}: {error.key} {error.found}", "left out; rename it first")
        return None


def _note_missing(task: TaskTree, findings: Findings) -> None:
    for path in task.required_files:
        if task.base.is_dir() and not path.is_file():
            findings.complain(
                path, "a required file is missing", "the scene's evaluation cannot be taken over until it is there"
            )


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
        epoch = _epoch_of(place.relative_to(folder))
        for name in sorted(names):
            camera = _CAMERA.fullmatch(place.parent.name) if place.name == "metrics_input" else None
            if name in tasks_of:
                without_epoch |= epoch is None
                of_task = files.setdefault((NO_EPOCH if epoch is None else epoch, tasks_of[name]), {})
                if name in of_task:
                    findings.complain(place / name, f"a second one of its name; {of_task[name]} is taken", "left out")
                of_task.setdefault(name, place / name)
            elif camera and name.endswith(".jpg") and _is_frame(Path(name).stem):
                pictures[NO_EPOCH if epoch is None else epoch, int(camera[1]), Path(name).stem] = place / name
    if without_epoch:
        findings.complain(folder, "the files are in no epoch's folder", f"they enter as {epoch_name(NO_EPOCH)}")
    return files, pictures


def _epoch_of(place: Path) -> int | None:
    matches = [match for part in place.parts if (match := _OLDER_EPOCH.fullmatch(part))]
    return int(matches[-1][1]) if matches else None


def _is_frame(name: str) -> bool:
    try:
        check_frame(name)
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


def mirror_older(found: FoundScores, target: EvaluationTree) -> int:
    """Make a tree of the output document's names by hard links (copies on another file system). Returns the number of files.

    Only what the document names: metric files, and the pictures of what was measured under `viz/`.
    """
    count = 0
    with storage.atomic_directory(target.base) as staging:
        for (epoch, task), named in found.files.items():
            tree = target.task(epoch, task)
            for path in tree.required_files:
                count += _link(named[path.name], staging / path.relative_to(target.base))
        for (epoch, cam_id, fname), path in found.pictures.items():
            place = target.task(epoch, "nvs").older_metric_picture(cam_id, fname)
            count += _link(path, staging / place.relative_to(target.base))
    return count


def _link(source: Path, target: Path) -> int:
    storage.link_or_copy(source, target)
    return 1
