"""Bodies posed by generated model files of the published shape, against the `smplx` library's own classes."""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bodies import Bodies, BodyModel, find_body_model, is_complete, posed_bodies, read_body_model
from thesis_assets.schemas.scenes import BODY_ARRAYS
from thesis_assets_tests.scenes.generated_models import SMPLX_PARENTS, model_arrays, write_model

pytest.importorskip("smplx", reason="needs the extra `body`")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for model in ("smpl", "smplx"):
        write_model(folder, model, "neutral")
    write_model(folder, "smpl", "male", v_template=model_arrays("smpl")["v_template"] + [0.01, 0, 0])
    return folder


def people(model: BodyModel, n_people: int = 2) -> Bodies:
    rng = np.random.default_rng(3)
    shapes = BODY_ARRAYS[model].items()
    parameters = {name: rng.normal(scale=0.2, size=(n_people, *shape)).astype(np.float32) for name, shape in shapes}
    return Bodies(model, parameters)


def tensors(bodies: Bodies) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array.reshape(len(array), -1)) for name, array in bodies.parameters.items()}


def test_smpl_equals_the_librarys_class(models: Path) -> None:
    import smplx
    from smplx.utils import Struct

    bodies = people("smpl")
    posed = posed_bodies(bodies, models, ["neutral", "neutral"])
    reference = smplx.SMPL("", data_struct=Struct(**model_arrays("smpl")), batch_size=2)(**tensors(bodies))
    assert posed.vertices is not None
    assert posed.joints is not None
    assert posed.joints.shape == (2, 24, 3)
    np.testing.assert_allclose(posed.vertices, reference.vertices.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(posed.joints, reference.joints[:, :24].detach().numpy(), atol=1e-5)


def test_smplx_equals_the_librarys_class(models: Path) -> None:
    import smplx

    bodies = people("smplx", 1)
    posed = posed_bodies(bodies, models, ["neutral"])
    options = {"use_pca": False, "flat_hand_mean": True, "num_expression_coeffs": 100}
    reference = smplx.create(str(models), "smplx", ext="npz", **options)
    ours = tensors(bodies)
    names = {"root_pose": "global_orient", "lhand_pose": "left_hand_pose", "rhand_pose": "right_hand_pose"}
    found = reference(**{names.get(name, {"trans": "transl"}.get(name, name)): value for name, value in ours.items()})
    assert posed.vertices is not None
    assert posed.joints is not None
    assert posed.joints.shape == (1, len(SMPLX_PARENTS), 3)
    np.testing.assert_allclose(posed.vertices, found.vertices.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(posed.joints, found.joints[:, :55].detach().numpy(), atol=1e-5)


def test_a_small_smplx_file_takes_as_much_expression_as_it_has(models: Path, tmp_path: Path) -> None:
    directions = model_arrays("smplx")["shapedirs"]
    write_model(
        tmp_path, "smplx", "neutral", shapedirs=np.concatenate([directions[..., :10], directions[..., 300:310]], 2)
    )
    bodies = people("smplx", 1)
    bodies.parameters["expression"][:, 10:] = 0
    small, large = (posed_bodies(bodies, folder, ["neutral"]).vertices for folder in (tmp_path, models))
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_each_person_is_posed_by_the_own_gender(models: Path) -> None:
    bodies = people("smpl")
    neutral = posed_bodies(bodies, models, ["neutral", "neutral"])
    mixed = posed_bodies(bodies, models, ["neutral", "male"])
    assert neutral.vertices is not None
    assert mixed.vertices is not None
    np.testing.assert_array_equal(mixed.vertices[0], neutral.vertices[0])
    shift = np.linalg.norm(mixed.vertices[1] - neutral.vertices[1], axis=1)
    assert shift == pytest.approx(0.01, abs=2e-3)  # A rotation keeps the length; skinning with two bones nearly.
    assert is_complete(mixed)
    assert not is_complete(bodies)


def pickled_as_published(path: Path, arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With objects of `chumpy` and sparse matrices, by protocol 2, as the published files are."""
    import scipy.sparse

    class Ch:
        def __init__(self, x: Any) -> None:
            self.x = x

    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    content = {
        **arrays,
        **{name: Ch(arrays[name]) for name in ("v_template", "shapedirs", "posedirs", "weights")},
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "bs_type": "lrotmin",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    monkeypatch.delitem(sys.modules, "chumpy.ch")
    monkeypatch.delitem(sys.modules, "chumpy")


def test_a_published_pickle_is_read_without_chumpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled_as_published(tmp_path / "smpl" / "SMPL_NEUTRAL.pkl", model_arrays("smpl"), monkeypatch)
    path = find_body_model(tmp_path, "smpl", "neutral")
    arrays = read_body_model(path, "smpl")
    np.testing.assert_array_equal(arrays.v_template, model_arrays("smpl")["v_template"].astype(np.float32))
    np.testing.assert_array_equal(arrays.regressor, model_arrays("smpl")["J_regressor"].astype(np.float32))
    assert arrays.parents[0] == -1


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "SMPL_NEUTRAL.pkl", tmp_path / "touched"
    path.write_bytes(pickle.dumps({"v_template": Harmful(mark)}))
    with pytest.raises(InvalidFile, match="cannot be read") as caught:
        read_body_model(path, "smpl")
    assert "which is no number" in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("spoil", ["cut short", "no pickle", "another model", "an array gone"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "SMPL_NEUTRAL.npz"
    small = {name: array for name, array in model_arrays("smpl").items() if name != "posedirs"}
    if spoil == "an array gone":
        np.savez(path, **small)  # type: ignore[arg-type]
    elif spoil == "another model":
        np.savez(path, **small, posedirs=np.zeros((6890, 3, 135)))  # type: ignore[arg-type]
    else:
        path = path.with_suffix(".pkl" if spoil == "no pickle" else ".npz")
        path.write_bytes(b"PK\x03\x04 not a model")
    with pytest.raises(InvalidFile) as caught:
        read_body_model(path, "smpl")
    assert str(path) in str(caught.value)


def test_a_missing_model_says_where_its_file_goes(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        find_body_model(tmp_path, "smpl", "female")
    assert f"{tmp_path}/smpl/SMPL_FEMALE.npz" in str(caught.value)
    with pytest.raises(InvalidFile, match="THESIS_BODY_MODELS_DIR"):
        find_body_model(None, "smplx", "neutral")
