"""Reference strategies: which camera and frame accompany a target. Always one view, known before anything is read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidScene
from thesis_assets.experiments.spec import Reference

if TYPE_CHECKING:
    from thesis_assets.scenes.scene import Scene


@dataclass(frozen=True)
class ReferenceView:
    """A camera and a frame. The frame may be one that no camera has (an offset beyond the sequence): the plan drops it."""

    cam_id: int
    fname: str


class ReferenceRule(ABC):
    """From a target to its reference."""

    cameras: frozenset[int]
    """Every camera that may be a reference."""

    @abstractmethod
    def view_for(self, cam_id: int, fname: str) -> ReferenceView:
        """The reference of a target camera at a frame."""


class TemporalOffset(ReferenceRule):
    """The source camera, a number of frames later (or earlier, where negative). Offset 0 is the same time."""

    def __init__(self, source: int, offset: int) -> None:
        self.cameras = frozenset((source,))
        self._source = source
        self._offset = offset

    def view_for(self, cam_id: int, fname: str) -> ReferenceView:
        return ReferenceView(self._source, f"{int(fname) + self._offset:06d}")


class NearestCamera(ReferenceRule):
    """The other camera whose centre is closest to the target's, at the same time."""

    def __init__(self, nearest: dict[int, int]) -> None:
        self.cameras = frozenset(nearest.values())
        self._nearest = nearest

    def view_for(self, cam_id: int, fname: str) -> ReferenceView:
        return ReferenceView(self._nearest[cam_id], fname)


class Mixed(ReferenceRule):
    """One of several rules for each target, by a draw that depends on seed, scene, camera and frame alone: on no order."""

    def __init__(self, rules: dict[str, ReferenceRule], weights: dict[str, float], seed: int, scene_name: str) -> None:
        self.cameras = frozenset().union(*(rule.cameras for rule in rules.values()))
        self._names = sorted(rules)
        self._rules = rules
        self._weights = weights
        self._place = f"{seed}|{scene_name}"

    def view_for(self, cam_id: int, fname: str) -> ReferenceView:
        drawn = hashlib.sha256(f"{self._place}|{cam_id}|{fname}".encode()).digest()
        left = int.from_bytes(drawn[:8], "big") / 2**64 * sum(self._weights.values())
        for name in self._names:
            left -= self._weights[name]
            if left < 0:
                return self._rules[name].view_for(cam_id, fname)
        return self._rules[self._names[-1]].view_for(cam_id, fname)  # rounding may leave a rest of 1e-16


def make_reference_rule(scene: Scene, reference: Reference, source: int, targets: Sequence[int]) -> ReferenceRule:
    """The rule of an experiment, for one scene.

    Raises:
        InvalidExperiment: the source camera is a target, and its reference would be the target itself.
        InvalidScene: `nearest_camera` is asked for and the scene has no second calibrated camera.
    """
    weights: dict[str, float] = {str(name): weight for name, weight in reference.weights.items()}
    names = sorted(weights) or [reference.strategy]
    if "same_time_source" in names and source in targets:
        raise InvalidExperiment(
            "the source camera is a target, so its reference would be the target image itself",
            key="generation.target_cameras.ids",
            found=f"{source}, the source camera of `{scene.name}`",
            wanted="target cameras beside the source camera",
            remedy="take the id out, or use the strategy `temporal_offset` or `nearest_camera`",
        )
    rules = {name: _single_rule(name, scene, reference, source, targets) for name in names}
    if reference.strategy == "mixed":
        return Mixed(rules, weights, reference.seed, scene.name)
    return rules[reference.strategy]


def _single_rule(name: str, scene: Scene, reference: Reference, source: int, targets: Sequence[int]) -> ReferenceRule:
    if name == "nearest_camera":
        return NearestCamera(nearest_cameras(scene, targets))
    return TemporalOffset(source, reference.offset if name == "temporal_offset" else 0)


def nearest_cameras(scene: Scene, targets: Sequence[int]) -> dict[int, int]:
    """For each target camera the other camera with the closest centre; of equally close ones the lower id.

    Cameras may move: the distance is that at each camera's first frame, so that one pair of views stays together.

    Raises:
        InvalidScene: a target, or every other camera, has no readable calibration.
    """
    import numpy as np

    centers = {}
    for cam_id in scene.camera_ids():
        try:
            centers[cam_id] = scene.camera(cam_id, scene.frames(cam_id)[0]).center
        except (InvalidFile, InvalidScene, IndexError):
            continue  # no candidate; a target among them is refused below
    nearest = {}
    for target in targets:
        others = sorted(set(centers) - {target})
        if target not in centers or not others:
            raise InvalidScene(
                "the nearest camera of a target cannot be told",
                file=scene.tree.ground_truth.cameras_dir,
                key="generation.reference.strategy",
                found=f"readable calibrations of cameras {sorted(centers)}, target {target}",
                wanted="the target's calibration and at least one other camera's",
                remedy="bring the calibrations, or choose another strategy",
            )
        nearest[target] = min(others, key=lambda cam_id: float(np.linalg.norm(centers[cam_id] - centers[target])))
    return nearest
