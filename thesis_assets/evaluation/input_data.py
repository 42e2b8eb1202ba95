"""`input_data/`: exactly what one scene was trained and evaluated on, by links, in the form of the two roots.

`train/` holds what was estimated from the source camera's video, `test/` the ground truth of the evaluated cameras and of the
source camera. Debug pictures of novel-view generation stand under `train/misc/nv_generation/` only.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.outputs import (
    CHOICE,
    choosing_files,
    kept,
    named_files,
    older_of,
    picked,
    publish,
    staged,
    verified,
)
from thesis_assets.evaluation.thesis_names import name_input_data
from thesis_assets.evaluation.views import evaluated_cameras, evaluated_views, pose_frames
from thesis_assets.layout import EvaluationTree, SceneFolders
from thesis_assets.provenance import CODE_VERSIONS, Contents, Place, Unit, Wanted, begin, recorded
from thesis_assets.scenes.bodies import BodyModel
from thesis_assets.scenes.listing import IMAGE_SUFFIXES, list_frames, list_numbers
from thesis_assets.schemas.evaluation import InputDataRecord

NV_DEBUG_KINDS = ("images", "masks", "depths")
TRAIN_PARTS = ("images", "seg", "all_cameras", "smplx", "depths")
TEST_PARTS = ("images", "seg", "all_cameras", "smpl", "smplx")


@dataclass(frozen=True)
class Link:
    """One file to link: `part` (`train/images`), where it comes from, its place below the part's own folder."""

    part: str
    source: Path
    target: Path


def link_input_data(
    cell: EvaluationCell, on_progress: Progress = silent, contents: Contents | None = None
) -> InputDataRecord:
    """Publish `input_data/` by one rename; what is as wanted is left alone.

    Raises:
        InvalidScene: the scene's source camera is not known.
    """
    unit, contents = input_data_unit(cell), contents or Contents()
    verdict = verified(unit, contents)
    if verdict.is_made:
        return storage.read_json(cell.tree.input_data_record, InputDataRecord)
    making, cell = begin(unit, contents), kept(cell, verdict.record)
    links = list(_links(cell))
    named = (cell.tree.nv_generation_dir,) if cell.tree.with_thesis_names else ()
    with staged(cell.tree.input_data_dir, *named) as (stage, *also):
        for folder in documented_folders(cell.tree):
            stage.place(folder / "file")
        modes = Counter(stage.link(link.source, link.target) for link in links)
        record = InputDataRecord(
            scene_name=cell.scene.name,
            source_camera_id=cell.source_camera(),
            frames=_frames(cell),
            cameras=_cameras(cell),
            link_modes=dict(sorted(modes.items())),
            part_digests=_part_digests(cell.tree, links, contents),
            missing=_missing(links),
        )
        stage.write(cell.tree.input_data_record, storage.to_json_bytes(record))
        for nv_generation in also:
            name_input_data(cell.tree, stage, nv_generation)
        publish([*also, stage], unit, verdict, making, contents)
    on_progress(f"{cell.scene.name}: {len(links)} input files linked, {len(record.missing)} parts missing")
    return record


def input_data_unit(cell: EvaluationCell) -> Unit:
    """What is linked of a scene, which may be gone."""
    tree = cell.tree
    # What has the names of the preset too lies in two folders.
    place = Place(tree.base if tree.with_thesis_names else tree.input_data_dir, tree.input_data_made_from)
    as_kept = kept(cell, recorded(place))
    options, given = picked(cell, as_kept, CHOICE)
    wanted = Wanted(
        "input_data", CODE_VERSIONS["input_data"], options, given, files=named_files(cell, _read(cell, as_kept))
    )
    return Unit(f"input_data of {cell.scene.name}", place, wanted, lambda: older_of(tree.input_data_record))


def _read(cell: EvaluationCell, as_kept: EvaluationCell) -> Iterator[Path]:
    yield from choosing_files(cell)
    with contextlib.suppress(ThesisAssetsError):  # the scene is gone, or lacks its source camera: linking it says so
        yield from [link.source for link in _links(as_kept)]


def documented_folders(tree: EvaluationTree) -> list[Path]:
    """Every folder that the output document lists: they exist also where a scene has nothing for them."""
    train, test = tree.input_data("train"), tree.input_data("test")
    return [
        *(train.base / part for part in TRAIN_PARTS),
        *(train.nv_generation_debug(kind) for kind in NV_DEBUG_KINDS),
        *(test.base / part for part in TEST_PARTS),
    ]


def _frames(cell: EvaluationCell) -> list[str]:
    """Every frame that any task looks at, in numeric order."""
    seen = {view.fname for view in evaluated_views(cell).views}
    seen.update(pose_frames(cell, "smplx"), pose_frames(cell, "smpl"))
    return sorted(seen, key=int)


def _cameras(cell: EvaluationCell) -> list[int]:
    return sorted([*evaluated_cameras(cell), cell.source_camera()])


def _links(cell: EvaluationCell) -> Iterator[Link]:
    frames = _frames(cell)
    yield from _train_links(cell, frames)
    yield from _test_links(cell, frames, _cameras(cell))


def _train_links(cell: EvaluationCell, frames: list[str]) -> Iterator[Link]:
    """The estimates, at whatever cameras they have (others than the source were synthesised), and the source's images."""
    scene, source = cell.scene, cell.source_camera()
    estimated, target = scene.tree.estimated, cell.tree.input_data("train")
    own = _of_cameras(cell, "images", estimated.images_dir, IMAGE_SUFFIXES, frames)
    yield from own
    if not any(link.target.parent.name == str(source) for link in own):
        for fname in frames:
            image = scene.image_path(source, fname)
            if image is not None:
                yield Link("train/images", image, target.image(source, fname, image.suffix))
    yield from _mask_links(cell, "train", estimated, list_numbers(estimated.masks_dir), frames)
    yield from _of_cameras(cell, "all_cameras", estimated.cameras_dir, (".npz",), frames)
    for fname in frames:
        body = scene.body_path("smplx", fname, estimated=True)
        if body is not None:
            yield Link("train/smplx", body, target.body("smplx", fname))
    yield from _of_cameras(cell, "depths", estimated.depths_dir, (".npy",), frames)
    for kind in NV_DEBUG_KINDS:
        folder = estimated.nv_generation_debug(kind)
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.is_file():
                scene.roots.check_inside(path)
                yield Link("train/misc", path, target.nv_generation_debug(kind) / path.relative_to(folder))


def _of_cameras(
    cell: EvaluationCell, part: str, folder: Path, suffixes: tuple[str, ...], frames: list[str]
) -> list[Link]:
    """`<part>/<cam_id>/<frame>` of every camera that the estimates have."""
    wanted, base = set(frames), cell.tree.input_data("train").base
    return [
        Link(f"train/{part}", path, base / path.relative_to(cell.scene.tree.estimated.base))
        for cam_id in list_numbers(folder)
        for fname, path in list_frames(folder / str(cam_id), suffixes, cell.scene.roots).paths.items()
        if fname in wanted
    ]


def _mask_links(
    cell: EvaluationCell, split: str, folders: SceneFolders, cameras: list[int], frames: list[str]
) -> Iterator[Link]:
    wanted, target = set(frames), cell.tree.input_data(split)
    for cam_id in cameras:
        folder = folders.masks_dir / str(cam_id)
        for person in [*map(str, list_numbers(folder)), "all"]:
            for fname, path in list_frames(folder / person, (".png",), cell.scene.roots).paths.items():
                if fname in wanted:
                    yield Link(f"{split}/seg", path, target.mask(cam_id, fname, person))


def _test_links(cell: EvaluationCell, frames: list[str], cameras: list[int]) -> Iterator[Link]:
    """The ground truth of the evaluated cameras and of the source camera."""
    scene, target = cell.scene, cell.tree.input_data("test")
    for cam_id in cameras:
        for fname in frames:
            image, calibration = scene.image_path(cam_id, fname), scene.camera_files(cam_id).paths.get(fname)
            if image is not None:
                yield Link("test/images", image, target.image(cam_id, fname, image.suffix))
            if calibration is not None:
                yield Link("test/all_cameras", calibration, target.camera(cam_id, fname))
    yield from _mask_links(cell, "test", scene.tree.ground_truth, cameras, frames)
    models: tuple[BodyModel, ...] = ("smpl", "smplx")
    for model in models:
        for fname in frames:
            body = scene.body_path(model, fname)
            if body is not None:
                yield Link(f"test/{model}", body, target.body(model, fname))


def _part_digests(tree: EvaluationTree, links: list[Link], contents: Contents) -> dict[str, str]:
    parts: dict[str, list[list[str]]] = {}
    for link in links:
        name = link.target.relative_to(tree.input_data_dir).as_posix()
        parts.setdefault(link.part, []).append([name, contents.sha256(link.source)])
    return {part: storage.sha256_value(sorted(files)) for part, files in sorted(parts.items())}


def _missing(links: list[Link]) -> list[str]:
    there = {link.part for link in links}
    roots = (("train", "preprocessing root", TRAIN_PARTS), ("test", "ground truth", TEST_PARTS))
    return [
        f"{split}/{part}: the {root} has none for the evaluated frames"
        for split, root, parts in roots
        for part in parts
        if f"{split}/{part}" not in there
    ]
