"""Joints and vertices of bodies whose files hold parameters alone, by the skinning of the `smplx` library (extra `body`).

The joints are those of the model's own skeleton: 24 of SMPL, 55 of SMPL-X. Hand poses are taken as they stand, without the
model's mean hand pose (`flat_hand_mean`). Does not belong here: reading model files (`body_model_files`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bodies import Array, Bodies, BodyModel
from thesis_assets.scenes.body_model_files import SHAPES, BodyModelArrays, find_body_model, read_body_model

if TYPE_CHECKING:
    from torch import Tensor

NEUTRAL = "neutral"
GENDERS = ("female", "male", NEUTRAL)
N_SHAPE_OF_400 = 300
"""SMPL-X files of 400 coefficients: 300 of shape, then 100 of expression. Smaller ones: 10 and 10."""
_POSES = {
    "smpl": ("global_orient", "body_pose"),
    "smplx": ("root_pose", "body_pose", "jaw_pose", "leye_pose", "reye_pose", "lhand_pose", "rhand_pose"),
}
_PLACE = {"smpl": "transl", "smplx": "trans"}


def is_complete(bodies: Bodies) -> bool:
    """Whether the file itself has joints and vertices."""
    return bodies.joints is not None and bodies.vertices is not None


def model_files(folder: Path | None, model: BodyModel, genders: Sequence[str]) -> list[Path]:
    """The files that bodies of these genders need.

    Raises:
        InvalidFile: one is not there, a gender is unknown, or the `smplx` library is not installed.
    """
    unknown = sorted(set(genders) - set(GENDERS))
    if unknown:
        raise InvalidFile("a gender has no body model", key="genders", found=unknown, wanted=", ".join(GENDERS))
    files = [find_body_model(folder, model, gender) for gender in sorted(set(genders))]
    if importlib.util.find_spec("smplx") is None:
        raise InvalidFile(
            "the `smplx` library is not installed",
            file=files[0],
            remedy='install the extra: pip install "thesis-assets[body]"',
        )
    return files


def posed_bodies(bodies: Bodies, folder: Path | None, genders: Sequence[str]) -> Bodies:
    """The same people with joints (P, J, 3), vertices (P, V, 3) and faces from the body model, float32 metres.

    Args:
        folder: of the model files.
        genders: one a person.

    Raises:
        InvalidFile: a model file is missing or unreadable, or the number of genders is not that of the people.
    """
    model = bodies.model
    if len(genders) != bodies.n_people:
        raise InvalidFile(
            "there is not one gender a person", key="genders", found=list(genders), wanted=f"{bodies.n_people} of them"
        )
    model_files(folder, model, genders)
    joints: list[Array] = []
    vertices: list[Array] = []
    for person, gender in enumerate(genders):
        arrays = read_body_model(find_body_model(folder, model, gender), model)
        person_vertices, person_joints = _posed_person(bodies, person, arrays)
        vertices.append(person_vertices)
        joints.append(person_joints)
    return replace(bodies, joints=np.stack(joints), vertices=np.stack(vertices), faces=arrays.faces)


def _posed_person(bodies: Bodies, person: int, arrays: BodyModelArrays) -> tuple[Array, Array]:
    """(V, 3) vertices and (J, 3) joints of one person."""
    import torch
    from smplx.lbs import lbs

    values = {name: array[person] for name, array in bodies.parameters.items()}
    pose = np.concatenate([values[name].reshape(-1) for name in _POSES[bodies.model]])
    coefficients, directions = _shape(values, arrays)

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    with torch.inference_mode():
        vertices, joints = lbs(
            tensor(coefficients[None]),
            tensor(pose[None]),
            tensor(arrays.v_template[None]),
            tensor(directions),
            tensor(arrays.posedirs.reshape(-1, arrays.posedirs.shape[2]).T),
            tensor(arrays.regressor),
            torch.from_numpy(arrays.parents),
            tensor(arrays.weights),
        )
    place = values[_PLACE[bodies.model]]
    return vertices[0].numpy() + place, joints[0].numpy() + place


def _shape(values: dict[str, Array], arrays: BodyModelArrays) -> tuple[Array, Array]:
    """Coefficients of shape, and of expression as far as the model has them, with their directions (V, 3, n)."""
    directions = arrays.shapedirs
    if "expression" not in values:
        return values["betas"], directions[:, :, :SHAPES]
    first = N_SHAPE_OF_400 if directions.shape[2] >= N_SHAPE_OF_400 + SHAPES else SHAPES
    expression = directions[:, :, first : first + len(values["expression"])]
    coefficients = np.concatenate([values["betas"], values["expression"][: expression.shape[2]]])
    return coefficients, np.concatenate([directions[:, :, :SHAPES], expression], axis=2)
