"""What a recording must hold, derived from the files of the tree alone: expectations, and the rules that are shared.

Written apart from the exporters on purpose: the pages beside this one walk every file there is and ask where it went, so that
a folder an exporter forgets is found. Does not belong here: reading recordings, comparing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.tree_files import files_below
from thesis_assets.layout import EvaluationTree
from thesis_assets.scenes.bounded_files import read_npz

Rules = tuple[tuple[str, str, str], ...]
"""Pattern of a place, template of an entity, component."""

NUMBER = r"(?:0|[1-9]\d*)"
FRAME = r"(?P<frame>\d{6,12})"
IMAGE_FILE = rf"{FRAME}\.(?:jpe?g|png)"
CAMERA = rf"(?P<cam>{NUMBER})"

IMAGE, MASK, DEPTH = "EncodedImage:blob", "SegmentationImage:buffer", "EncodedDepthImage:blob"
POINTS, MESH, SCALAR = "Points3D:positions", "Mesh3D:vertex_positions", "Scalars:scalars"
PINHOLE, POSE, TEXT = "Pinhole:image_from_camera", "Transform3D:translation", "TextDocument:text"


@dataclass
class Expectation:
    """One component of one entity.

    Attributes:
        frames: position on the main timeline to the files it comes from.
        static: it holds for all frames (and `frames` say from which files).
        timelines: of its rows.
        track: entities of one track share their frames (the people of one folder of files); empty = the entity alone.
        of_both: a row needs all of its files, so that one that was left out excuses it; else any one gives it.
    """

    frames: dict[int, list[str]] = field(default_factory=dict)
    static: bool = False
    timelines: tuple[str, ...] = ("frame",)
    track: str = ""
    of_both: bool = False


@dataclass
class ExpectedContent:
    """Everything a recording must hold, and files that no rule knows.

    `max_frames`: only the first so many frames of each track were exported (0 = all).
    """

    max_frames: int = 0
    entities: dict[tuple[str, str], Expectation] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    n_files: int = 0

    def add(self, entity: str, component: str, frame: int, source: str, *, track: str = "") -> None:
        """Expect one row."""
        expectation = self.entities.setdefault((entity, component), Expectation(track=track))
        expectation.frames.setdefault(frame, []).append(source)

    def limit(self) -> None:
        """Keep the first `max_frames` frames that the files of each track have (0 = all)."""
        if not self.max_frames:
            return
        frames_of: dict[str, set[int]] = {}
        for (entity, _), expectation in self.entities.items():
            frames_of.setdefault(expectation.track or entity, set()).update(expectation.frames)
        for (entity, _), expectation in self.entities.items():
            kept = set(sorted(frames_of[expectation.track or entity])[: self.max_frames])
            if expectation.timelines != ("epoch",):
                expectation.frames = {frame: made for frame, made in expectation.frames.items() if frame in kept}


def expect_camera(expected: ExpectedContent, entity: str, files: dict[int, Path], tree: EvaluationTree) -> None:
    """Pinhole and pose are static where every file says the same, else they have a row a frame."""
    arrays: dict[str, list[np.ndarray]] = {"intrinsics": [], "extrinsics": []}
    sources: dict[int, list[str]] = {}
    for frame, path in sorted(files.items())[: expected.max_frames or None]:
        sources[frame] = [path.relative_to(tree.base).as_posix()]
        try:
            archive = read_npz(path)
        except InvalidFile:  # the exporter must have named it among what was left out
            continue
        for name, values in arrays.items():
            if name in archive:
                values.append(archive[name])
    for name, component in (("intrinsics", PINHOLE), ("extrinsics", POSE)):
        static = all(np.array_equal(values, arrays[name][0]) for values in arrays[name])
        expected.entities[entity, component] = Expectation(dict(sources), static=static)


def expect_bodies(
    expected: ExpectedContent,
    path: Path,
    people: str,
    suffix: str,
    match: re.Match[str],
    source: str,
    *,
    meshes: bool,
) -> None:
    """A row a person and frame: a mesh where the file has vertices and faces (and `meshes`), else joints."""
    try:
        arrays = read_npz(path)
    except InvalidFile:  # the exporter must have named it among what was left out
        expected.add(f"{people}/person_0{suffix}", POINTS, int(match["frame"]), source, track=people + suffix)
        return
    as_mesh = meshes and "vertices" in arrays and "faces" in arrays
    n_people = len(arrays["betas"]) if "betas" in arrays else 1
    for person in range(n_people):
        component = MESH if as_mesh else POINTS
        expected.add(f"{people}/person_{person}{suffix}", component, int(match["frame"]), source, track=people + suffix)


def apply_rules(rules: Rules, place: str, expected: ExpectedContent, source: str, keys: dict[str, str]) -> bool:
    """Expect what the first rule that knows `place` says. Returns whether there was one."""
    for pattern, template, component in rules:
        if match := re.fullmatch(pattern, place, re.ASCII):
            found = match.groupdict()
            expected.add(template.format(**keys, **found), component, int(found["frame"]), source)
            return True
    return False


def filled_files(folder: Path) -> list[Path]:
    """Files with content: an empty file counts as missing in the scene contract."""
    return [path for path in files_below(folder) if path.stat().st_size > 0]
