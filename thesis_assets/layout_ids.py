"""From a path back to the ids in it: the inverse of `layout`, for every kind of path that carries ids. Pure: no IO.

The form of a kind is taken from `layout` itself (its path for stand-in ids, with the ids cut out), so no path is written twice.
Does not belong here: any path.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidKey
from thesis_assets.layout import (
    DifixTree,
    EvaluationTree,
    SampleId,
    SceneTree,
    check_camera,
    check_frame,
    check_key,
    check_person,
    epoch_name,
    parse_epoch,
)
from thesis_assets.layout_kinds import DIFIX_KINDS, EVALUATION_KINDS, SCENE_KINDS, PathKind

Tree = DifixTree | EvaluationTree | SceneTree
Id = int | str | SampleId


@dataclass(frozen=True)
class PathIds:
    """What a path is (`checkpoint`, `nvs/pred_image`, `ground_truth/mask`) and the ids in it, by field."""

    kind: str
    ids: Mapping[str, Id]


def ids_of(tree: Tree, path: Path) -> PathIds:
    """The kind and ids of a path of `tree`.

    Raises:
        InvalidKey: the path is none of the tree's own that carry ids, or an id in it is not safe.
    """
    for kind, pattern in _patterns(type(tree).__name__).items():
        anchor = _anchor(tree, kind)
        match = pattern.fullmatch(path.relative_to(anchor).as_posix()) if path.is_relative_to(anchor) else None
        if match:
            return PathIds(kind, {name: _FIELDS[name].read(text) for name, text in match.groupdict().items()})
    raise InvalidKey("no path of this tree has this form", file=ascii(str(path)), wanted="a path that `layout` builds")


def path_of(tree: Tree, place: PathIds) -> Path:
    """The path of `tree` with this kind and these ids: the way back from `ids_of`.

    Raises:
        InvalidKey: there is no such kind, or an id is not safe.
    """
    kind = _KINDS[type(tree).__name__].get(place.kind)
    if kind is None:
        raise InvalidKey("no such kind of path", key="kind", found=place.kind)
    return kind.build(tree, **place.ids)


@dataclass(frozen=True)
class _Field:
    stand_in: Id
    """Stands for the id in a path, and occurs nowhere else in one."""
    form: str
    read: Callable[[str], Id]
    write: Callable[[Any], str] = str


def _key_field(what: str) -> _Field:
    return _Field(f"standin-{what}", r"[^/]+", lambda text: check_key(text, what))


_FIELDS: dict[str, _Field] = {
    "sample": _Field(SampleId("standin_sample", 1, 2, "000003", "000004"), r"[^/]+", SampleId.parse),
    "scene_name": _key_field("scene_name"),
    "run_name": _key_field("run_name"),
    "cell": _key_field("cell"),
    "person": _key_field("person"),
    "step": _Field(555_000_555_000, r"0|[1-9]\d{0,11}", int),
    "epoch": _Field(777_000_777, r"epoch_\d{4,9}", parse_epoch, epoch_name),
    "cam_id": _Field(2_000_222_000, r"0|[1-9]\d{0,9}", lambda text: check_camera(int(text))),
    "fname": _Field("999000999000", r"\d{6,12}", check_frame),
    "person_number": _Field(97, r"\d\d", lambda text: check_person(int(text)), lambda number: f"{number:02d}"),
    "suffix": _Field(".jpeg", r"\.(?:jpg|jpeg|png)", str),
}


_KINDS: dict[str, dict[str, PathKind]] = {
    "DifixTree": DIFIX_KINDS,
    "EvaluationTree": EVALUATION_KINDS,
    "SceneTree": SCENE_KINDS,
}
_STAND_IN_TREES: dict[str, Tree] = {
    "DifixTree": DifixTree(Path("/root"), "experiment"),
    "EvaluationTree": EvaluationTree(Path("/root"), "experiment"),
    "SceneTree": SceneTree(Path("/gt"), Path("/estimated"), Path("/registry"), Path("/renders"), "standin_scene"),
}


@cache
def _patterns(tree_type: str) -> dict[str, re.Pattern[str]]:
    """By kind: the form of its path below the kind's anchor, with one named group a field."""
    stand_in = _STAND_IN_TREES[tree_type]
    patterns = {}
    for name, kind in _KINDS[tree_type].items():
        path = kind.build(stand_in, **{field: _FIELDS[field].stand_in for field in kind.fields})
        form = re.escape(path.relative_to(_anchor(stand_in, name)).as_posix())
        for field in kind.fields:
            written = re.escape(_FIELDS[field].write(_FIELDS[field].stand_in))
            form = form.replace(written, f"(?P<{field}>{_FIELDS[field].form})", 1)
        patterns[name] = re.compile(form, re.ASCII)
    return patterns


def _anchor(tree: Tree, kind: str) -> Path:
    """The folder that a kind's paths lie below."""
    if not isinstance(tree, SceneTree):
        return tree.base
    folders = {"ground_truth": tree.ground_truth.base, "estimated": tree.estimated.base, "render": tree.renders_dir}
    return folders[kind.partition("/")[0]]
