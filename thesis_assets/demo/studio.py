"""The studio: six synthetic scenes of two moving people each, with perfect ground truth and imperfect estimates.

Everything is drawn from seeds: the same version of this code on the same machine writes the same bytes. Nobody's likeness,
no licensed body model, no download.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from thesis_assets import storage
from thesis_assets.demo.studio_cameras import SOURCE_CAMERA, studio_cameras
from thesis_assets.demo.studio_cast import PAIRS, SCENES, StudioScene
from thesis_assets.demo.studio_choreography import CHOREOGRAPHIES
from thesis_assets.demo.studio_estimates import estimate_motion
from thesis_assets.demo.studio_files import Take, is_complete, write_scene
from thesis_assets.demo.studio_motion import solve
from thesis_assets.scenes.listing import SceneRoots

STUDIO_VERSION = 1
"""Raise it with every change that shows in a file: scenes made by another version are made again."""
IMAGE_SIZE = 128
N_FRAMES = 12


def make_studio(
    roots: SceneRoots,
    on_progress: Callable[[str], None],
    *,
    scenes: Sequence[StudioScene] = SCENES,
    size: int = IMAGE_SIZE,
    n_frames: int = N_FRAMES,
) -> list[str]:
    """Write the studio scenes; one that is complete by its record is left untouched.

    Args:
        on_progress: gets one line a scene.
        size: height and width of the images, pixels.
        n_frames: the same actions in more or fewer frames.

    Returns:
        The names of all scenes, made now or before.
    """
    begin = time.monotonic()
    missing = [scene for scene in scenes if not is_complete(roots.tree(scene.name), _recipe(scene, size, n_frames))]
    if len(missing) < len(scenes):
        on_progress(f"{len(scenes) - len(missing)} of {len(scenes)} studio scenes are there already")
    for number, scene in enumerate(missing, start=1):
        write_scene(roots.tree(scene.name), film(scene, size, n_frames), _recipe(scene, size, n_frames))
        spent = time.monotonic() - begin
        left = spent / number * (len(missing) - number)
        on_progress(f"{scene.name}: {n_frames} frames; {number} of {len(missing)} scenes, about {left:.0f} s left")
    return [scene.name for scene in scenes]


def film(scene: StudioScene, size: int, n_frames: int) -> Take:
    """The motion of a scene, its cameras and its estimate; no image is drawn yet."""
    people = PAIRS[scene.pair]
    choreography = CHOREOGRAPHIES[scene.choreography]
    times = [number / max(n_frames - 1, 1) for number in range(n_frames)]
    motion = [solve(people, choreography(moment, scene.turned)) for moment in times]
    cameras = studio_cameras(size)
    source = next(camera for camera in cameras if camera.cam_id == SOURCE_CAMERA)
    estimate = estimate_motion(people, motion, source, np.random.default_rng([scene.seed, 0]))
    return Take(scene, people, motion, cameras, estimate)


def _recipe(scene: StudioScene, size: int, n_frames: int) -> str:
    return storage.sha256_value([STUDIO_VERSION, scene.name, scene.choreography, scene.seed, size, n_frames])
