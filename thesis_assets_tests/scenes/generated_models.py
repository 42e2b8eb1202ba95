"""Body-model files of the published shape and key names, with numbers that mean nothing."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]

N_VERTICES = {"smpl": 6890, "smplx": 10475}
N_FACES = {"smpl": 13776, "smplx": 20908}
N_COEFFICIENTS = {"smpl": 10, "smplx": 400}
SMPL_PARENTS = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
FINGERS = [
    parent
    for wrist, first in ((20, 25), (21, 40))
    for knuckle in range(first, first + 15, 3)
    for parent in (wrist, knuckle, knuckle + 1)
]
SMPLX_PARENTS = [*SMPL_PARENTS[:22], 15, 15, 15, *FINGERS]


@functools.cache
def model_arrays(model: str) -> Arrays:
    """What the file of a neutral model holds."""
    rng = np.random.default_rng(len(model))
    parents = SMPL_PARENTS if model == "smpl" else SMPLX_PARENTS
    n, joints = N_VERTICES[model], len(parents)
    kintree = np.array([parents, range(joints)], np.uint32)
    kintree[0, 0] = 2**32 - 1  # As published: no parent.
    owner = np.arange(n) % joints
    regressor, weights = np.zeros((joints, n)), np.zeros((n, joints))
    regressor[owner, np.arange(n)] = 1
    regressor /= regressor.sum(axis=1, keepdims=True)
    weights[np.arange(n), owner], weights[np.arange(n), np.array(parents)[owner]] = 0.75, 0.25
    weights /= weights.sum(axis=1, keepdims=True)
    arrays: Arrays = {
        "v_template": rng.normal(scale=0.3, size=(n, 3)),
        "shapedirs": 0.01 * rng.standard_normal((n, 3, N_COEFFICIENTS[model]), np.float32),
        "posedirs": 0.001 * rng.standard_normal((n, 3, 9 * (joints - 1)), np.float32),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": kintree,
        "f": rng.integers(0, n, (N_FACES[model], 3)).astype(np.uint32),
    }
    if model == "smplx":
        arrays |= {
            **{f"hands_components{side}": np.eye(45) for side in "lr"},
            **{f"hands_mean{side}": rng.normal(size=45) for side in "lr"},
            "lmk_faces_idx": np.arange(51),
            "lmk_bary_coords": np.full((51, 3), 1 / 3),
            "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
            "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        }
    return arrays


def write_model(folder: Path, model: str, gender: str, **changed: np.ndarray[Any, Any]) -> Path:
    """Write `<folder>/<model>/<MODEL>_<GENDER>.npz`."""
    path = folder / model / f"{model.upper()}_{gender.upper()}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Published files hold dictionaries too, which only a pickle can.
    extra: dict[str, Any] = {"joint2num": np.array({"Pelvis": 0}, dtype=object)}
    np.savez(path, **{**model_arrays(model), **changed, **extra})
    return path
