"""A scene's files, each opened once: whole images of one size a camera, calibrations, masks, bodies, renders that fit.

The catalog (catalog.py) says what is there and what is missing from listings alone; this says what is broken. Does not belong
here: what an experiment needs, Gaussians' content (the rendering room).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.codecs import check_complete, check_size, image_size
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.catalog import Purpose, SceneSummary, describe_scene
from thesis_assets.scenes.listing import DEFAULT_QUIET_S, SceneRoots
from thesis_assets.scenes.scene import Scene, open_scene

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

    def lacking(self, purposes: Iterable[Purpose]) -> Mapping[Purpose, tuple[str, ...]]:
        """What is missing for some purposes; those that lack nothing are left out."""
        missing = self.summary.missing
        return {purpose: missing[purpose] for purpose in purposes if missing.get(purpose)}


def check_scene(
    roots: SceneRoots,
    scene_name: str,
    *,
    source_camera: int | None = None,
    render_source: str | None = None,
    quiet_s: float = DEFAULT_QUIET_S,
    on_progress: Callable[[str], None] = lambda line: None,
) -> SceneReport:
    """Describe a scene, and open each of its files once. Images are not decoded: their header and end are looked at.

    Args:
        source_camera: the camera that an experiment names; None asks the registry.
        render_source: `gaussians`, `precomputed` or `command`; None accepts Gaussians or renders.
        quiet_s: how long the folders of a scene without a declared status must have rested to count as complete.
        on_progress: receives a line every two seconds.

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


@dataclass
class _Checker:
    """Goes through the files of one scene; remembers when it last said how far it is."""

    scene: Scene
    on_progress: Callable[[str], None]
    _said: float = field(default_factory=time.monotonic)
    _n_files: int = 0

    def findings(self) -> Iterator[Finding]:
        for cam_id in self.scene.camera_ids():
            yield from self._images(cam_id)
            yield from self._calibrations(cam_id)
            yield from self._masks(cam_id)
            yield from self._renders(cam_id)
        yield from self._cameras_apart()
        yield from self._image_sizes()
        yield from self._bodies()

    def _images(self, cam_id: int) -> Iterator[Finding]:
        place, files = f"images/{cam_id}", self.scene.image_files(cam_id)

        def check(path: Path) -> None:
            check_size(check_complete(path), self.scene.image_size(cam_id), path)

        yield from self._each(place, files.paths.values(), check)
        yield from _empty(place, files.empty)

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
            yield from self._each(place, masks, lambda path: self._check_size_of(path, cam_id))
            absent = len(photographed) - len(masks)
            if masks and absent:
                yield Finding("warning", place, absent, f"{absent} of {len(photographed)} frames have no mask")

    def _renders(self, cam_id: int) -> Iterator[Finding]:
        renders = self.scene.render_files(cam_id)
        if self.scene.image_files(cam_id).paths:
            yield from self._each(
                f"renders/{cam_id}", renders.paths.values(), lambda path: self._check_size_of(path, cam_id)
            )

    def _check_size_of(self, path: Path, cam_id: int) -> None:
        check_size(image_size(path), self.scene.image_size(cam_id), path)

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
                yield from self._each(place, files.paths.values(), partial(_count_people, model, counts))
                yield from _empty(place, files.empty)
            both = [sorted(counts) for counts in people.values() if counts]
            if any(len(counts) > 1 for counts in both) or len({tuple(counts) for counts in both}) > 1:
                text = ", ".join(f"{side}: {sorted(counts)}" for side, counts in people.items() if counts)
                yield Finding("warning", model, 1, f"numbers of people differ between frames or sides ({text})")

    def _each(self, place: str, paths: Iterable[Path], check: Callable[[Path], None]) -> Iterator[Finding]:
        """One finding for all files of a place that fail a check; it has the first one's message."""
        failed: list[str] = []
        for path in paths:
            self._n_files += 1
            if time.monotonic() - self._said > _PROGRESS_EVERY_S:
                self._said = time.monotonic()
                self.on_progress(f"{self.scene.name}: {self._n_files} files looked at, now {place}")
            try:
                check(path)
            except ThesisAssetsError as error:
                failed.append(" ".join(str(error).split()))
        if failed:
            yield Finding("error", place, len(failed), failed[0])


def _count_people(model: BodyModel, counts: set[int], path: Path) -> None:
    counts.add(read_bodies(path, model).n_people)


def _empty(place: str, empty: tuple[str, ...]) -> Iterator[Finding]:
    if empty:
        yield Finding("warning", place, len(empty), f"empty files (failed upstream), the first at frame {empty[0]}")
