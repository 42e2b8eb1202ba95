"""The studio scenes on disk: the contract, the same bytes each time, nothing re-done."""

from pathlib import Path

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.demo.studio import DemoRecord, make_studio
from thesis_assets.demo.studio_people import PAIRS, SCENES, StudioScene
from thesis_assets.demo.studio_views import CAMERAS, SOURCE_CAMERA
from thesis_assets.images.codecs import read_mask, read_rgb
from thesis_assets.layout import SceneFolders
from thesis_assets.rendering.gaussians import read_ply
from thesis_assets.scenes.bodies import Bodies, read_bodies
from thesis_assets.scenes.camera import read_camera
from thesis_assets.scenes.catalog import describe_scene
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import Scene, open_scene

SIZE, N_FRAMES = 48, 4
HUG = next(scene for scene in SCENES if scene.name == "studio_pair02_hug")
DANCE = next(scene for scene in SCENES if scene.name == "studio_pair03_dance")


def roots_in(base: Path) -> SceneRoots:
    return SceneRoots(base / "canonical_gt", base / "preprocessing", base / "scenes", base / "renders")


def make(base: Path, *scenes: StudioScene) -> list[str]:
    lines: list[str] = []
    make_studio(roots_in(base), lines.append, scenes=scenes, size=SIZE, n_frames=N_FRAMES)
    return lines


def contents(base: Path) -> dict[str, str]:
    return {
        str(path.relative_to(base)): storage.sha256_file(path) for path in sorted(base.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("studio")
    make(base, HUG, DANCE)
    return base


@pytest.fixture
def hug(studio: Path) -> Scene:
    return open_scene(roots_in(studio), HUG.name)


def bodies(folders: SceneFolders, model: str, fname: str) -> Bodies:
    return read_bodies(folders.body(model, fname), model)  # type: ignore[arg-type]


def test_the_six_scenes_show_four_pairs_of_different_people() -> None:
    assert sorted(scene.name for scene in SCENES) == [
        "studio_pair00_dance", "studio_pair00_hug", "studio_pair01_dance", "studio_pair01_fight", "studio_pair02_hug",
        "studio_pair03_dance",
    ]  # fmt: skip
    people = [person for pair in PAIRS.values() for person in pair]
    assert len({person.betas for person in people}) == len({person.outfit for person in people}) == 8


def test_a_scene_made_twice_has_the_same_bytes(studio: Path, tmp_path: Path) -> None:
    make(tmp_path, HUG)
    again = contents(tmp_path)
    first = {name: digest for name, digest in contents(studio).items() if HUG.name in name}
    assert again == first
    assert len(again) > 100


def test_a_second_making_touches_nothing(studio: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in studio.rglob("*")}
    lines = make(studio, HUG, DANCE)
    assert lines == ["2 of 2 studio scenes are there already"]
    assert {path: path.stat().st_mtime_ns for path in studio.rglob("*")} == before


@pytest.mark.parametrize("spoil", ["remove an image", "cut a mask short", "remove the registry entry", "other size"])
def test_a_scene_with_a_spoilt_file_is_made_again(studio: Path, tmp_path: Path, spoil: str) -> None:
    make_studio(roots_in(tmp_path), lambda _: None, scenes=[DANCE], size=16, n_frames=1)
    tree = roots_in(tmp_path).tree(DANCE.name)
    expected = contents(tmp_path)
    if spoil == "remove an image":
        tree.ground_truth.image(28, "000000").unlink()
    elif spoil == "cut a mask short":
        tree.estimated.mask(SOURCE_CAMERA, "000000").write_bytes(b"")
    elif spoil == "remove the registry entry":
        tree.registry_entry.unlink()
    else:
        make_studio(roots_in(tmp_path), lambda _: None, scenes=[DANCE], size=24, n_frames=1)
        assert contents(tmp_path) != expected
    make_studio(roots_in(tmp_path), lambda _: None, scenes=[DANCE], size=16, n_frames=1)
    assert contents(tmp_path) == expected


def test_the_record_lists_every_other_file_of_the_scene(hug: Scene, studio: Path) -> None:
    record = storage.read_json(hug.tree.ground_truth.demo_record, DemoRecord)
    on_disk = [name for name in contents(studio) if HUG.name in name]
    assert len(record.sizes) == len(on_disk) - 1


def test_a_scene_opens_by_the_contract_and_lacks_nothing(hug: Scene) -> None:
    assert hug.camera_ids() == sorted(CAMERAS) == [4, 16, 28, 40]
    assert hug.source_camera() == 16
    assert hug.frames() == ["000000", "000001", "000002", "000003"]
    assert hug.n_people() == 2
    assert hug.genders() == ["female", "male"]
    summary = describe_scene(hug.roots, hug.name)
    assert summary.complete
    assert not any(summary.missing.values())
    assert not summary.gaps
    assert summary.confidence_min is not None
    assert summary.confidence_min < 0.5, "the scene whose people are swapped is a warning in the catalog"


def test_every_frame_has_every_kind_of_file(hug: Scene) -> None:
    truth, estimated = hug.tree.ground_truth, hug.tree.estimated
    for fname in hug.frames():
        for cam_id in hug.camera_ids():
            size = (SIZE, SIZE)
            assert read_rgb(truth.image(cam_id, fname)).shape == (*size, 3)
            depth = np.load(truth.depth(cam_id, fname))
            assert (depth.dtype, depth.shape) == (np.float32, size)
            assert np.isfinite(depth).all()
            people = [read_mask(truth.mask(cam_id, fname, person)) for person in (0, 1)]
            assert np.array_equal(people[0] | people[1], read_mask(truth.mask(cam_id, fname, "all")))
            assert not (people[0] & people[1]).any()
            assert hug.camera(cam_id, fname).cam_id == cam_id
        rows = [line.split()[0] for line in truth.mesh(fname).read_text().splitlines()]
        assert set(rows) == {"v", "f"}
        assert read_rgb(estimated.image(SOURCE_CAMERA, fname)).shape == (SIZE, SIZE, 3)
        assert np.load(estimated.depth(SOURCE_CAMERA, fname)).shape == (SIZE, SIZE)
        assert estimated.mask(SOURCE_CAMERA, fname, 1).is_file()
        assert 3000 <= len(read_ply(estimated.gaussians(fname)).means) <= 5000
    assert [path.name for path in estimated.images_dir.iterdir()] == ["16"]


@pytest.mark.parametrize("model", ["smplx", "smpl"])
def test_bodies_have_joints_vertices_and_shared_faces_in_both_roots(hug: Scene, model: str) -> None:
    for folders in (hug.tree.ground_truth, hug.tree.estimated):
        found = bodies(folders, model, "000002")
        assert found.joints is not None
        assert found.vertices is not None
        assert found.faces is not None
        assert found.joints.shape == (2, {"smplx": 22, "smpl": 24}[model], 3)
        assert 300 < found.vertices.shape[1] < 900
        assert found.faces.max() == found.vertices.shape[1] - 1
        assert (found.contact is None) == (folders == hug.tree.estimated)


def test_the_two_numberings_of_people_agree_through_the_registry(hug: Scene, studio: Path) -> None:
    assert hug.identity_mapping() == {0: 1, 1: 0}
    assert open_scene(roots_in(studio), DANCE.name).identity_mapping() is None
    for name, mapping in ((HUG.name, {0: 1, 1: 0}), (DANCE.name, {0: 0, 1: 1})):
        tree = roots_in(studio).tree(name)
        true_shapes = bodies(tree.ground_truth, "smpl", "000001").parameters["betas"]
        shapes = bodies(tree.estimated, "smpl", "000001").parameters["betas"]
        for estimated, true in mapping.items():
            other = 1 - true
            own_error = np.linalg.norm(shapes[estimated] - true_shapes[true])
            assert own_error < np.linalg.norm(shapes[estimated] - true_shapes[other])
            overlap = [
                read_mask(tree.estimated.mask(16, "000000", estimated))
                & read_mask(tree.ground_truth.mask(16, "000000", p))
                for p in (true, other)
            ]
            assert overlap[0].sum() > overlap[1].sum()


def test_the_estimated_camera_sees_the_estimated_people_where_the_true_one_sees_the_true(hug: Scene) -> None:
    truth, estimated = hug.tree.ground_truth, hug.tree.estimated
    moved = []
    for fname in hug.frames():
        true_camera = hug.camera(16, fname)
        camera = read_camera(estimated.camera(16, fname), 16, SIZE, SIZE)
        true_joints = bodies(truth, "smplx", fname).joints
        joints = bodies(estimated, "smplx", fname).joints
        assert true_joints is not None
        assert joints is not None
        joints = joints[[1, 0]]
        pixels, depth = camera.project(joints.reshape(-1, 3))
        true_pixels, true_depth = true_camera.project(true_joints.reshape(-1, 3))
        assert np.abs(pixels - true_pixels).mean() < 0.08 * SIZE
        assert 0.005 < np.abs(depth - true_depth).mean() < 0.4
        moved.append(np.linalg.norm(joints - true_joints, axis=-1).mean())
    assert min(moved) > 0.3, "the estimate's world lies elsewhere as a whole"


def test_a_network_can_see_the_truth_in_the_imperfect_render(hug: Scene) -> None:
    torch = pytest.importorskip("torch")
    from thesis_assets.rendering.gaussians import to_tensors
    from thesis_assets.rendering.torch_rasteriser import rasterise

    camera = hug.camera(28, "000001")
    gaussians = to_tensors(read_ply(hug.tree.estimated.gaussians("000001")))
    render = rasterise(gaussians, torch.tensor(camera.intrinsics), torch.tensor(camera.extrinsics), SIZE, SIZE)
    mask = read_mask(hug.tree.ground_truth.mask(28, "000001"))
    target = read_rgb(hug.tree.ground_truth.image(28, "000001")) / 255.0
    error = (render.permute(1, 2, 0).numpy() - target)[mask]
    assert 12.0 < 10 * np.log10(1 / (error**2).mean()) < 22.0
    assert render.permute(1, 2, 0).numpy()[~mask].mean() < 0.05, "only the people have Gaussians"
