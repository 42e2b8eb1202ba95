"""Studio people in the arrays of the scene contract: SMPL-X and SMPL parameters that agree with joints, vertices and contact.

The pose parameters are the studio skeleton's own rotations in the slots of the same joints. What the studio's bodies do not
have (fingers, jaw, eyes, expression) is zero. `betas` belong to the studio's shape space: a licensed body model would give
another surface for them, which is why joints and vertices stand in the file.
"""

from collections.abc import Sequence

import numpy as np

from thesis_assets.demo.studio_contact import contact_between
from thesis_assets.demo.studio_people import Individual
from thesis_assets.demo.studio_skeleton import N_SMPLX_JOINTS, Pose, posed_joints
from thesis_assets.scenes.bodies import Bodies, BodyModel
from thesis_assets.schemas.scenes import BODY_ARRAYS


def studio_bodies(people: Sequence[Individual], poses: Sequence[Pose], model: BodyModel, *, contact: bool) -> Bodies:
    """Two people of one frame as one of the body models.

    Args:
        contact: also say which vertices touch (ground truth only: an estimate does not know).
    """
    n_joints = N_SMPLX_JOINTS if model == "smplx" else None
    joints = [posed_joints(person.rest, pose)[:n_joints] for person, pose in zip(people, poses, strict=True)]
    vertices = [person.surface(pose, person.body(model)).vertices for person, pose in zip(people, poses, strict=True)]
    return Bodies(
        model=model,
        parameters=_parameters(people, poses, model),
        joints=np.stack(joints).astype(np.float32),
        vertices=np.stack(vertices).astype(np.float32),
        faces=people[0].body(model).faces.astype(np.int32),
        contact=contact_between(vertices[0], vertices[1]) if contact else None,
    )


def _parameters(people: Sequence[Individual], poses: Sequence[Pose], model: BodyModel) -> dict[str, np.ndarray]:
    rotations = np.stack([pose.rotations for pose in poses])
    place = np.stack([pose.translation for pose in poses])
    known = {"betas": np.array([person.betas for person in people])}
    if model == "smplx":
        known |= {"root_pose": rotations[:, 0], "body_pose": rotations[:, 1:N_SMPLX_JOINTS], "trans": place}
    else:
        known |= {"global_orient": rotations[:, 0], "body_pose": rotations[:, 1:], "transl": place}
    return {
        name: known.get(name, np.zeros((len(people), *shape))).astype(np.float32)
        for name, shape in BODY_ARRAYS[model].items()
    }
