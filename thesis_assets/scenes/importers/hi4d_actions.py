"""The actions of Hi4D below a folder: found, chosen, named as scenes, and imported one by one, in whichever process.

Does not belong here: what an action's files hold (hi4d.py).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidScene, first_names, near_names
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TEMPORARY_PREFIX
from thesis_assets.scenes.importers.hi4d import CAMERAS_FILE, META_FILE, PARTS, arranged, read_hi4d
from thesis_assets.scenes.importers.writing import (
    ImportedScene,
    LinkMode,
    check_capture,
    refuse_existing,
    registry_entry,
    write_scene,
)
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.scenes import ImportRecord

_DEEPEST_ACTION = 5  # <root>/hi4d/pair15_1/pair15/fight15 is four down; the bound also ends a loop of links
_LEAST_PARTS = 2  # a folder with one of these names alone is some other folder


@dataclass(frozen=True)
class Hi4DAction:
    """One recorded action.

    Attributes:
        pair: of its people, as `pair15`; empty where it is not known.
        problem: why it can become no scene, where its place says so.
    """

    folder: Path
    pair: str
    scene_name: str
    problem: InvalidScene | None = None


def find_actions(root: Path) -> list[Hi4DAction]:
    """The actions at or below a folder, sorted by scene name: `pair15/fight15`, also nested as in the archives.

    The scene of an action is `hi4d_<pair>_<action without the pair's number>`. Two of one name have each a `problem` that names both.
    """
    folders = {folder.resolve(): folder for folder in _action_folders(root, _DEEPEST_ACTION)}
    actions = sorted(map(_named, folders.values()), key=lambda action: (action.scene_name, action.folder))
    places: dict[str, list[str]] = {}
    for action in actions:
        places.setdefault(action.scene_name, []).append(str(action.folder))
    return [
        replace(action, problem=_collision(action, places[action.scene_name]))
        if len(places[action.scene_name]) > 1
        else action
        for action in actions
    ]


def choose_actions(
    actions: Sequence[Hi4DAction], root: Path, *, name: str | None, pairs: Collection[str], everything: bool
) -> list[Hi4DAction]:
    """The actions that are meant.

    Args:
        name: `hi4d_pair15_fight`, `fight15` or `pair15/fight15`.
        pairs: numbers of pairs (`15`); with none, those of all pairs.
        everything: all of them. Without a name, pairs or this, there must be one only.

    Raises:
        InvalidScene: there is no action, none of that name or pair, or more than one where one is meant.
    """
    wanted = {_padded(pair) for pair in pairs}
    there = {_padded(action.pair) for action in actions if action.pair}
    if not actions or wanted - there:
        raise InvalidScene(
            "there is no such pair of Hi4D" if actions else "there is no action of Hi4D",
            file=root,
            found=", ".join(sorted(wanted - there)) or None,
            wanted=f"one of {', '.join(sorted(there))}" if actions else f"folders with {', '.join(PARTS)}",
            remedy="name the folder that the archives were unpacked in",
        )
    chosen = [action for action in actions if not wanted or (action.pair and _padded(action.pair) in wanted)]
    if name is not None:
        chosen = [action for action in chosen if name in _names(action)]
    names = sorted({action.scene_name for action in chosen})
    if not names or (len(names) > 1 and not wanted and not everything) or (name is not None and len(names) > 1):
        known = [action.scene_name for action in actions]
        raise InvalidScene(
            "there is no such action of Hi4D" if not names else "more than one action of Hi4D is meant",
            file=root,
            found=name if not names else f"{len(names)}: {first_names(names)}",
            wanted=near_names(known, [name or ""]) if not names else "one",
            remedy="name one (hi4d_pair15_fight, or pair15/fight15), or take --pairs 15,16 or --all",
        )
    return chosen


def _padded(pair: str) -> str:
    """`pair05`, of that, of `pair5` and of `5`."""
    return f"pair{int(pair.removeprefix('pair')):02d}"


def _action_folders(folder: Path, deeper: int) -> Iterator[Path]:
    if sum((folder / part).exists() for part in PARTS) >= _LEAST_PARTS:
        yield folder
    elif deeper:
        with os.scandir(folder) as entries:
            inner = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        for name in inner:
            yield from _action_folders(folder / name, deeper - 1)


def _named(folder: Path) -> Hi4DAction:
    whole = folder.absolute()
    stem, digits = re.fullmatch(r"(.*?)([0-9]*)", whole.name).groups()  # type: ignore[union-attr]  # fits any name
    above = (re.fullmatch(r"pair([0-9]+)(?:_[0-9]+)?", parent.name) for parent in whole.parents)
    number = next((match[1] for match in above if match), digits)
    if not number:
        problem = InvalidScene(
            "the pair of an action is not known",
            file=folder,
            found=whole.name,
            wanted="pair<number>/<action>, or the pair's number at the end of the action's name",
            remedy="give its folder the name that it has in the archive, such as pair15/fight15",
        )
        return Hi4DAction(folder, "", f"hi4d_{whole.name}", problem)
    action = stem if stem and digits == number else whole.name
    return Hi4DAction(folder, f"pair{number}", f"hi4d_pair{number}_{action}")


def _names(action: Hi4DAction) -> tuple[str, ...]:
    own = action.folder.absolute().name
    return action.scene_name, own, f"{action.pair}/{own}"


def _collision(action: Hi4DAction, folders: Sequence[str]) -> InvalidScene:
    return InvalidScene(
        f"two actions would become the scene `{action.scene_name}`",
        file=action.folder,
        found=" and ".join(folders),
        wanted="one action a scene",
        remedy="take one of them away, or name its folder itself: --hi4d <folder>",
    )


@dataclass(frozen=True)
class Hi4DImport:
    """One action to be imported, as a worker process takes it. `source_camera`: id or None, which takes the action's own."""

    roots: SceneRoots
    action: Hi4DAction
    source_camera: str | None = None
    without: tuple[str, ...] = ()
    link_mode: LinkMode = "auto"
    dry_run: bool = False


@dataclass(frozen=True)
class Hi4DOutcome:
    """What became of an action. `imported`: None of a dry run, and of a scene that was there, whole, and is left alone."""

    action: Hi4DAction
    state: Literal["made", "would be made", "there already"]
    cameras: tuple[int, ...]
    source_camera: int | None
    n_frames: int
    n_images: int
    notes: tuple[str, ...] = ()
    imported: ImportedScene | None = None


def import_action(job: Hi4DImport) -> Hi4DOutcome:
    """Import one action, or in a dry run open all that this would open. Says how far it is by `launch.telling.tell`.

    A scene that was made from the same cameras and meta.npz, with the same parts, is left alone. A scene appears whole or not at all.

    Raises:
        InvalidScene: there is another scene of that name, or the action's place gives it none.
        InvalidFile: a file of the action is not as the dataset's page has it.
        CellLocked: another process imports the scene.
    """
    action = job.action
    if action.problem is not None:
        raise action.problem
    tree = job.roots.tree(action.scene_name)
    record = _record_of(tree.ground_truth.import_record, job)
    if record is not None:
        n_frames = len({image.fname for image in record.images})
        return Hi4DOutcome(action, "there already", tuple(record.cameras), None, n_frames, len(record.images))
    capture = read_hi4d(action.folder, without=job.without)
    arrangement = arranged(capture)
    source = capture.source_camera
    if job.source_camera is not None:
        source = arrangement.camera_called(job.source_camera)
    elif source is not None and source not in arrangement.camera_names:
        raise InvalidFile(
            "the monocular camera is none of the cameras",
            file=action.folder / META_FILE,
            key="mono_cam",
            found=source,
            wanted=f"one of {', '.join(map(str, arrangement.camera_names))}",
            remedy="name one: --source-camera <id>",
        )
    entry = None if source is None else registry_entry(action.scene_name, source, action.folder)
    refuse_existing(tree, entry, None)
    cameras, n_frames, n_images = tuple(arrangement.camera_names), len(arrangement.frames), len(arrangement.placed)
    outcome = Hi4DOutcome(action, "would be made", cameras, source, n_frames, n_images, capture.notes)

    def say(line: str) -> None:
        tell(f" {action.scene_name}: {line}")

    if job.dry_run:
        check_capture(capture, arrangement, say)
        return outcome
    with storage.cell_lock(tree.import_lock, action.scene_name):
        _remove_interrupted(tree.ground_truth.base)
        imported = write_scene(
            *(job.roots, action.scene_name, capture, arrangement),
            source_camera=source,
            raw_gt_dir=action.folder,
            link_mode=job.link_mode,
            on_progress=say,
        )
    return replace(outcome, state="made", imported=imported)


def _record_of(path: Path, job: Hi4DImport) -> ImportRecord | None:
    """The record of a scene that was imported from these very files, wherever they lay then, with the same parts."""
    sources = [job.action.folder / CAMERAS_FILE, job.action.folder / META_FILE]
    if not path.is_file() or not all(source.is_file() for source in sources):
        return None
    record = storage.read_json(path, ImportRecord)
    same = {*record.sources.values()} == {storage.sha256_file(source) for source in sources}
    return record if record.format == "hi4d" and same and record.left_out == sorted(job.without) else None


def _remove_interrupted(final: Path) -> None:
    """What a killed import of the scene, whose lock we hold, left half written."""
    for folder in final.parent.glob(f"{TEMPORARY_PREFIX}{final.name}.*.partial"):
        shutil.rmtree(folder)
