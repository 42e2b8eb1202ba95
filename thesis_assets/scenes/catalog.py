"""The catalog: which scenes are on disk, what each of them has, what it lacks for which purpose, and whether it is complete.

That it says from listings alone. `check_scene` opens each file of a scene once and says what is broken: whole images of one size a
camera, calibrations, masks, bodies, renders that fit. Does not belong here: which scenes an experiment takes (matching.py), what an
experiment needs, Gaussians' content (the rendering room).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from thesis_assets import storage
from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.images.codecs import check_complete, check_size, image_size, jpeg_components, read_mask
from thesis_assets.launch.telling import every
from thesis_assets.layout import dataset_of
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.bounded_files import read_depth
from thesis_assets.scenes.listing import (
    DEFAULT_QUIET_S,
    Completeness,
    SceneRoots,
    file_with_content,
    recipe_folders,
    upstream_completeness,
)
from thesis_assets.scenes.scene import Scene, open_scene

CONFIDENCE_WARNING = 0.5
"""Below it people may be swapped between estimate and ground truth."""
MAX_PERSON_ID_MAP_BYTES = 4 * 1024 * 1024


_UNREAD = Completeness(False, False, "the scene cannot be read")


@dataclass(frozen=True)
class SceneSummary:
    """One row of the catalog.

    Attributes:
        n_frames: frames that any camera has an image of, skip frames left out.
        frames_per_camera: camera id to number of frames with an image, skip frames left out.
        modalities: folders with content, as `ground_truth/images`, `estimated/smplx`, `renders`.
        missing: for each purpose what the scene lacks; an empty list means enough.
        gaps: frames without a file that others have.
        complete: upstream has finished, nothing is missing for the export, and there are no gaps that upstream did not
            declare.
        completeness: upstream's word, or the rest of its folders.
        confidence_min: of the person assignment, where `misc/person_id_map.json` has it.
        warnings: what a person should look at.
        problem: why the scene cannot be read at all; everything else is then empty.
    """

    name: str
    dataset: str
    source_camera: int | None = None
    cameras: tuple[int, ...] = ()
    n_frames: int = 0
    frames_per_camera: Mapping[int, int] = field(default_factory=dict)
    n_skipped: int = 0
    n_people: int = 0
    modalities: tuple[str, ...] = ()
    missing: Mapping[Purpose, tuple[str, ...]] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    complete: bool = False
    completeness: Completeness = _UNREAD
    confidence_min: float | None = None
    warnings: tuple[str, ...] = ()
    problem: str | None = None

    def enough_for(self, purpose: Purpose) -> bool:
        """Whether nothing is missing for a purpose."""
        return self.problem is None and not self.missing[purpose]


def list_scenes(roots: SceneRoots) -> list[str]:
    """Names of the scene folders under the ground-truth root, sorted. A root that is not there has none."""
    try:
        with os.scandir(roots.canonical_gt) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return []
    return [name for name in names if _is_scene_name(name)]


def known_scenes(roots: SceneRoots) -> set[str]:
    """Names of scenes that are on a disk or in the registry, whether or not they can be exported."""
    places = [*roots.preprocessing.glob("*/"), *(path.with_suffix("") for path in roots.registry.glob("*.json"))]
    return {*list_scenes(roots), *(path.name for path in places if _is_scene_name(path.name))}


def describe_scene(
    roots: SceneRoots,
    scene_name: str,
    *,
    source_camera: int | None = None,
    render_source: str | None = None,
    recipes: Sequence[str] = ("",),
    quiet_s: float = DEFAULT_QUIET_S,
    now: float | None = None,
) -> SceneSummary:
    """What a scene has, what it lacks for which purpose, and whether it is complete.

    A scene that breaks the contract gets a row with its `problem`: one broken scene must not hide the others.

    Args:
        source_camera: the camera that an experiment names; None asks the registry.
        render_source: `gaussians`, `precomputed` or `command`; None accepts Gaussians or renders.
        recipes: the folders that `precomputed` renders of recipes lie in, each of which is needed; the empty one: of no recipe.
        quiet_s: how long the folders of a scene without a declared status must have rested.
        now: seconds since the epoch; None takes the clock.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
    """
    dataset_of(scene_name)
    try:
        scene = open_scene(roots, scene_name)
        completeness = upstream_completeness(scene.tree, roots, quiet_s=quiet_s, now=now)
        return _summary(scene, completeness, source_camera, render_source, recipes)
    except ThesisAssetsError as error:
        return SceneSummary(scene_name, dataset_of(scene_name), problem=str(error))


def _summary(
    scene: Scene,
    completeness: Completeness,
    source_camera: int | None,
    render_source: str | None,
    recipes: Sequence[str],
) -> SceneSummary:
    triplets = tuple(
        missing_for_triplets(scene, source_camera=source_camera, render_source=render_source, recipes=recipes)
    )
    missing: dict[Purpose, tuple[str, ...]] = {
        "export": triplets,
        "nvs": triplets,
        "pose_smplx": tuple(missing_for_poses(scene, "smplx")),
        "pose_smpl": tuple(missing_for_poses(scene, "smpl")),
    }
    gaps = tuple(gaps_by_frame(scene, render_source=render_source))
    confidence, warnings = _confidence(scene)
    cameras = scene.camera_ids()
    return SceneSummary(
        name=scene.name,
        dataset=scene.dataset,
        source_camera=source_camera if source_camera is not None else scene.registered_camera,
        cameras=tuple(cameras),
        n_frames=len(scene.frames()),
        frames_per_camera={cam_id: len(scene.frames(cam_id)) for cam_id in cameras},
        n_skipped=len(scene.frames(apply_skip_frames=False)) - len(scene.frames()),
        n_people=scene.n_people(),
        modalities=_modalities(scene),
        missing=missing,
        gaps=gaps,
        complete=completeness.complete and not triplets and (completeness.declared or not gaps),
        completeness=completeness,
        confidence_min=confidence,
        warnings=(*warnings, *_naming_warnings(scene), *_unreadable(scene)),
    )


def _modalities(scene: Scene) -> tuple[str, ...]:
    names = ("images", "all_cameras", "seg", "smplx", "smpl", "depths", "meshes", "gaussians")
    sides = {"ground_truth": scene.tree.ground_truth.base, "estimated": scene.tree.estimated.base}
    places = {f"{side}/{name}": base / name for side, base in sides.items() for name in names}
    places["renders"] = scene.tree.renders_dir
    return tuple(label for label, place in places.items() if place.is_dir() and any(place.iterdir()))


def _confidence(scene: Scene) -> tuple[float | None, list[str]]:
    """`confidence_min` of `misc/person_id_map.json`, and the warning it deserves."""
    for folders in (scene.tree.estimated, scene.tree.ground_truth):
        path = file_with_content(folders.person_id_map, scene.roots)
        if path is None:
            continue
        value = storage.read_json_value(path, max_bytes=MAX_PERSON_ID_MAP_BYTES)
        confidence = value.get("confidence_min") if isinstance(value, dict) else None
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            return None, []
        low = confidence < CONFIDENCE_WARNING
        warning = f"people may be swapped: confidence_min {confidence:.2f} is below {CONFIDENCE_WARNING} ({path})"
        return float(confidence), [warning] if low else []
    return None, []


def _naming_warnings(scene: Scene) -> list[str]:
    warnings = []
    if scene.registry is not None and scene.registry.seq_name != scene.name:
        warnings.append(
            f"the registry entry's seq_name is {scene.registry.seq_name!r}, the scene's name {scene.name!r}"
        )
    for cam_id in scene.camera_ids():
        others: Sequence[str] = [name for name in scene.image_files(cam_id).others if not name.startswith(".")]
        if others:
            warnings.append(f"images/{cam_id}: {len(others)} files are not <six digits>.jpg, such as {others[0]!r}")
    return warnings


def _unreadable(scene: Scene) -> list[str]:
    """Canonical Gaussians, which nothing says how to pose: there, and of no use to the platform's own renderers."""
    files = [
        path
        for folders in (scene.tree.ground_truth, scene.tree.estimated)
        for path in sorted(folders.canonical_gaussians_dir.glob("*/gs.pt"))
    ]
    if not files:
        return []
    shown = ", ".join(f"{path.parent.parent.name}/{path.parent.name}/{path.name}" for path in files[:4])
    more = f" and {len(files) - 4} more" if len(files) > 4 else ""
    return [
        f"{shown}{more}: there, but not read: Gaussians in a canonical pose are posed and rendered by the pipeline that made them "
        "(`generation.renders.source: command`)"
    ]


def _is_scene_name(name: str) -> bool:
    try:
        dataset_of(name)
    except InvalidKey:
        return False
    return True


_PLACE = re.compile(r" \(/[^()]*\)")


def missing_text(summary: SceneSummary) -> str:
    """What a scene lacks, in one line, without the places looked in: `export, nvs: Gaussians`; `nothing` where it lacks nothing."""
    if summary.problem is not None:
        return summary.problem
    purposes: dict[str, list[str]] = {}
    for purpose, reasons in summary.missing.items():
        if reasons:
            purposes.setdefault(_PLACE.sub("", ", ".join(reasons)), []).append(purpose)
    lines = [f"{', '.join(lacking)}: {reasons}" for reasons, lacking in purposes.items()]
    return "; ".join([*lines, *summary.gaps, *summary.warnings]) or "nothing"


Purpose = Literal["export", "nvs", "pose_smplx", "pose_smpl"]
PURPOSES: tuple[Purpose, ...] = ("export", "nvs", "pose_smplx", "pose_smpl")


def missing_for_triplets(
    scene: Scene,
    *,
    source_camera: int | None = None,
    render_source: str | None = None,
    recipes: Sequence[str] = ("",),
) -> list[str]:
    """What the export of triplets, and so novel views, cannot do without; arguments as of `describe_scene`. Empty: nothing."""
    cameras = scene.camera_ids()
    calibrated = [cam_id for cam_id in cameras if scene.image_files(cam_id).paths and scene.camera_files(cam_id).paths]
    lacks = []
    if len(calibrated) < 2:
        lacks.append(
            f"images and all_cameras of at least two cameras (images: {_names(cameras)}; with both: {_names(calibrated)})"
        )
    source = source_camera if source_camera is not None else scene.registered_camera
    if source is None:
        lacks.append(f"a registry entry ({scene.tree.registry_entry}) or a source camera named in the experiment")
    elif source not in calibrated:
        lacks.append(f"images and all_cameras of the source camera {source}")
    if not _has_renders(scene, render_source, recipes):
        lacks.append(_renders_wanted(scene, render_source, recipes))
    return lacks


def missing_for_poses(scene: Scene, model: BodyModel) -> list[str]:
    """What the pose task of a body model cannot do without. Empty: nothing."""
    sides = ((False, "ground truth"), (True, "estimates"))
    return [
        f"{model}/ in the {word} ({scene.bodies_dir(model, estimated=estimated)})"
        for estimated, word in sides
        if not scene.body_frames(model, estimated=estimated)
    ]


def gaps_by_frame(scene: Scene, *, render_source: str | None = None) -> list[str]:
    """Frames for which a file that others have was never written. An empty file is no gap: that frame failed upstream.

    Every camera is held against all frames of the scene; frames of `skip_frames.csv` are left out.
    """
    frames = scene.frames()
    gaps = []
    for cam_id in scene.camera_ids():
        for folder, files in (("images", scene.image_files(cam_id)), ("all_cameras", scene.camera_files(cam_id))):
            gaps += _gap(f"{folder}/{cam_id}", frames, {*files.paths, *files.empty})
    if render_source in (None, "gaussians") and scene.gaussian_files().paths and not scene.has_static_gaussians():
        files = scene.gaussian_files()
        gaps += _gap("gaussians", frames, {*files.paths, *files.empty})
    return gaps


def _gap(place: str, frames: Sequence[str], present: Iterable[str]) -> list[str]:
    there = set(present)
    absent = [fname for fname in frames if fname not in there]
    return [f"{place}: {len(absent)} of {len(frames)} frames, first {absent[0]}"] if absent and there else []


def _has_renders(scene: Scene, render_source: str | None, recipes: Sequence[str]) -> bool:
    if render_source == "command":
        return True
    gaussians = scene.has_static_gaussians() or bool(scene.gaussian_files().paths)
    if render_source == "gaussians":
        return gaussians
    if render_source == "precomputed":
        return all(_renders_of(scene, recipe) for recipe in recipes)
    return gaussians or any(_renders_of(scene, recipe) for recipe in ("", *recipe_folders(scene.tree)))


def _of_recipe(scene: Scene, recipe: str) -> Scene:
    """The scene with the renders of a recipe's folder."""
    same = recipe == scene.tree.recipe
    return scene if same else Scene(scene.roots, replace(scene.tree, recipe=recipe), scene.registry)


def _renders_of(scene: Scene, recipe: str) -> bool:
    """Whether any camera has a render there."""
    return any(_of_recipe(scene, recipe).render_files(cam_id).paths for cam_id in scene.camera_ids())


def _renders_wanted(scene: Scene, render_source: str | None, recipes: Sequence[str]) -> str:
    gaussians, renders = str(scene.tree.estimated.gaussians_dir), str(scene.tree.renders_dir)
    if render_source == "precomputed":
        lacking = [recipe for recipe in recipes if not _renders_of(scene, recipe)]
        renders = ", ".join(str(replace(scene.tree, recipe=recipe).renders_dir) for recipe in lacking)
    wanted = {"gaussians": f"Gaussians ({gaussians})", "precomputed": f"renders ({renders})"}
    return wanted.get(render_source or "", f"Gaussians ({gaussians}) or renders ({renders})")


def _names(cameras: Sequence[int]) -> str:
    return ", ".join(map(str, cameras)) or "none"


Severity = Literal["error", "warning"]

_PROGRESS_EVERY_S = 2.0
_POSE_DECIMALS = 6


@dataclass(frozen=True)
class Finding:
    """What is wrong with the files of one place.

    Attributes:
        severity: an `error` makes a task fail or leaves samples out, a `warning` is worth a look.
        place: a folder of the scene, such as `images/4`.
        count: how many files of it are so.
        message: about the first of them.
    """

    severity: Severity
    place: str
    count: int
    message: str


@dataclass(frozen=True)
class SceneReport:
    """What a scene has and lacks, and what of it is broken."""

    summary: SceneSummary
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> bool:
        """Whether the scene cannot be read, or a file of it is of no use."""
        return self.summary.problem is not None or any(finding.severity == "error" for finding in self.findings)


def check_scene(
    roots: SceneRoots,
    scene_name: str,
    *,
    source_camera: int | None = None,
    render_source: str | None = None,
    quiet_s: float = DEFAULT_QUIET_S,
    on_progress: Callable[[str], None] = lambda line: None,
) -> SceneReport:
    """Describe a scene (see `describe_scene`), and open each of its files once: of photographs and renders the header and the end
    are looked at, masks, depths and bodies are read.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
        InvalidScene: there is no such scene.
    """
    scene = open_scene(roots, scene_name)
    summary = describe_scene(
        roots, scene_name, source_camera=source_camera, render_source=render_source, quiet_s=quiet_s
    )
    if summary.problem is not None:
        return SceneReport(summary, ())
    checker = _Checker(scene, on_progress)
    return SceneReport(summary, tuple(checker.findings()))


class _Checker:
    """Goes through the files of one scene, and says now and then how far it is."""

    def __init__(self, scene: Scene, on_progress: Callable[[str], None]) -> None:
        self.scene, self._n_files, self._place = scene, 0, ""
        self._report = every(
            _PROGRESS_EVERY_S,
            on_progress,
            lambda _: f"{scene.name}: {self._n_files} files looked at, now {self._place}",
        )

    def findings(self) -> Iterator[Finding]:
        for cam_id in self.scene.camera_ids():
            yield from self._images(cam_id)
            yield from self._calibrations(cam_id)
            yield from self._masks(cam_id)
            yield from self._renders(cam_id)
            yield from self._depths(cam_id)
        yield from self._cameras_apart()
        yield from self._image_sizes()
        yield from self._bodies()

    def _images(self, cam_id: int) -> Iterator[Finding]:
        place, files = f"images/{cam_id}", self.scene.image_files(cam_id)

        plain: list[str] = []

        def check(path: Path) -> None:
            check_size(check_complete(path), self.scene.image_size(cam_id), path)
            if (components := jpeg_components(path)) not in (3, None):
                plain.append(f"{path.name}: {'grey' if components == 1 else 'print colours (CMYK)'}, not RGB")

        yield from self._each(place, files.paths.values(), check)
        yield from _empty(place, files.empty)
        if plain:
            yield Finding("warning", place, len(plain), f"{plain[0]}; samples hold a converted copy")

    def _calibrations(self, cam_id: int) -> Iterator[Finding]:
        place, files = f"all_cameras/{cam_id}", self.scene.camera_files(cam_id)
        if not self.scene.image_files(cam_id).paths:
            return
        outside: list[str] = []

        def check(path: Path) -> None:
            camera = self.scene.camera(cam_id, path.stem)
            centre = camera.intrinsics[:2, 2]
            if (centre < 0).any() or (centre > [camera.width, camera.height]).any():
                outside.append(f"{path.name}: principal point {centre.round(1).tolist()} is outside the image")

        yield from self._each(place, files.paths.values(), check)
        yield from _empty(place, files.empty)
        if outside:
            yield Finding("warning", place, len(outside), outside[0])

    def _masks(self, cam_id: int) -> Iterator[Finding]:
        photographed = self.scene.frames(cam_id)
        people: list[int | str] = ["all", *self.scene.person_ids(cam_id)]
        for person in people:
            place = f"seg/img_seg_mask/{cam_id}/{person}"
            masks = [path for fname in photographed if (path := self.scene.mask_path(cam_id, fname, person))]
            yield from self._each(place, masks, lambda path: self._check_mask(path, cam_id))
            absent = len(photographed) - len(masks)
            if masks and absent:
                yield Finding("warning", place, absent, f"{absent} of {len(photographed)} frames have no mask")

    def _renders(self, cam_id: int) -> Iterator[Finding]:
        if not self.scene.image_files(cam_id).paths:
            return
        for recipe in ("", *recipe_folders(self.scene.tree)):
            place = f"renders/{recipe}/{cam_id}" if recipe else f"renders/{cam_id}"
            renders = _of_recipe(self.scene, recipe).render_files(cam_id)
            yield from self._each(place, renders.paths.values(), lambda path: self._check_size_of(path, cam_id))

    def _depths(self, cam_id: int) -> Iterator[Finding]:
        for estimated, side in ((False, "ground truth"), (True, "estimates")):
            photographed = self.scene.frames(cam_id)
            paths = (self.scene.depth_path(cam_id, fname, estimated=estimated) for fname in photographed)
            yield from self._each(
                f"depths/{cam_id} ({side})",
                [path for path in paths if path is not None],
                lambda path: read_depth(path, self.scene.image_size(cam_id)),
            )

    def _check_size_of(self, path: Path, cam_id: int) -> None:
        check_size(image_size(path), self.scene.image_size(cam_id), path)

    def _check_mask(self, path: Path, cam_id: int) -> None:
        height, width = read_mask(path).shape
        check_size((height, width), self.scene.image_size(cam_id), path)

    def _cameras_apart(self) -> Iterator[Finding]:
        """Two cameras with one pose at one frame make no novel view of each other: mostly a mistake of the listing."""
        first = self.scene.frames()[:1]
        seen: dict[bytes, int] = {}
        for cam_id in self.scene.camera_ids() if first else ():
            try:
                pose = self.scene.camera(cam_id, first[0]).extrinsics
            except ThesisAssetsError:
                continue  # said by `_calibrations`, or a gap of the summary
            other = seen.setdefault((pose.round(_POSE_DECIMALS) + 0.0).tobytes(), cam_id)  # + 0.0: no -0.0
            if other != cam_id:
                message = f"cameras {other} and {cam_id} stand at one place and look one way (frame {first[0]})"
                yield Finding("warning", "all_cameras", 1, message)

    def _image_sizes(self) -> Iterator[Finding]:
        """A sample needs one size of its target and its reference."""
        sizes: dict[tuple[int, int], int] = {}
        for cam_id in self.scene.camera_ids():
            try:
                sizes.setdefault(self.scene.image_size(cam_id), cam_id)
            except ThesisAssetsError:
                continue  # said by `_images`, or a gap of the summary
        if len(sizes) > 1:
            shown = ", ".join(f"{width} x {height} (camera {cam_id})" for (height, width), cam_id in sizes.items())
            message = (
                f"image sizes differ between cameras: {shown[:200]}; a sample needs one size of target and reference"
            )
            yield Finding("warning", "images", len(sizes), message)

    def _bodies(self) -> Iterator[Finding]:
        models: tuple[BodyModel, ...] = ("smplx", "smpl")
        for model in models:
            people: dict[str, set[int]] = {}
            for side, estimated in (("ground truth", False), ("estimates", True)):
                place, files = f"{model} ({side})", self.scene.body_files(model, estimated=estimated)
                counts = people.setdefault(side, set())
                lacking: list[str] = []
                yield from self._each(place, files.paths.values(), partial(_look_at_people, model, counts, lacking))
                yield from _empty(place, files.empty)
                if lacking:
                    yield Finding("warning", place, len(lacking), f"{lacking[0]}; {_POINTS_WANTED.format(model=model)}")
            both = [sorted(counts) for counts in people.values() if counts]
            if any(len(counts) > 1 for counts in both) or len({tuple(counts) for counts in both}) > 1:
                text = ", ".join(f"{side}: {sorted(counts)}" for side, counts in people.items() if counts)
                yield Finding("warning", model, 1, f"numbers of people differ between frames or sides ({text})")

    def _each(self, place: str, paths: Iterable[Path], check: Callable[[Path], object]) -> Iterator[Finding]:
        """One finding for all files of a place that fail a check; it has the first one's message."""
        failed: list[str] = []
        self._place = place
        for path in paths:
            self._n_files += 1
            self._report()
            try:
                check(path)
            except ThesisAssetsError as error:
                failed.append(" ".join(str(error).split()))
        if failed:
            yield Finding("error", place, len(failed), failed[0])


_POINTS_WANTED = (
    "pose_{model} computes them by the body model, where THESIS_BODY_MODELS_DIR has its files; or write them into the .npz: "
    "`joints` (P, J, 3), `vertices` (P, V, 3), metres"
)


def _look_at_people(model: BodyModel, counts: set[int], lacking: list[str], path: Path) -> None:
    """Add the number of a file's people, and what of their points it does not hold."""
    bodies = read_bodies(path, model)
    counts.add(bodies.n_people)
    absent = [name for name in ("joints", "vertices") if getattr(bodies, name) is None]
    if absent and bodies.n_people:
        lacking.append(f"{path.name} has no {' and no '.join(absent)}")


def _empty(place: str, empty: tuple[str, ...]) -> Iterator[Finding]:
    if empty:
        yield Finding("warning", place, len(empty), f"empty files (failed upstream), the first at frame {empty[0]}")
