"""The unrefined render of a view: the sample's `image.png` where the snapshot has one, else rendered now.

Both are the same 8-bit pixels: a sample's image is what the same renderer drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.views import View
from thesis_assets.rendering.renderer import MissingRender, Renderer, RenderSizeMismatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ImperfectRenders:
    """Unrefined renders of one scene. The renderer is made the first time a view has no sample."""

    def __init__(self, cell: EvaluationCell) -> None:
        self._cell = cell
        self._used: set[str] = set()

    @cached_property
    def samples(self) -> dict[View, Path]:
        """`image.png` of the scene's samples, by target view; a render does not depend on the reference.

        None of a shard that would be made from something else now, and none that is missing or damaged: those views are rendered.
        """
        from thesis_assets.samples.sample_rows import read_rows
        from thesis_assets.samples.shards import shard_unit
        from thesis_assets.scenes.matching import group_id

        difix, scene, experiment = self._cell.difix, self._cell.scene, self._cell.experiment
        group = group_id(scene.name, experiment.split.group_rules)
        shard = shard_unit(difix, scene.roots, scene.name, experiment.generation, group).look()
        rows_file = difix.scene_run(scene.name).all_samples
        spoilt = {*shard.missing, *shard.damaged}
        unfinished = shard.record is None and not shard.is_made
        if unfinished or shard.is_stale or difix.relative(rows_file) in spoilt:
            return {}
        paths = {
            View(row.target_cam_id, row.target_fname): row.image_path
            for row in read_rows(rows_file)
            if row.image_path not in spoilt
        }
        return {view: difix.base / path for view, path in paths.items() if (difix.base / path).is_file()}

    @property
    def origins(self) -> frozenset[str]:
        """Where the renders came from, for the record: `samples`, a renderer's name and version, or both."""
        return frozenset(self._used)

    def of_frame(self, fname: str, cam_ids: Sequence[int]) -> tuple[dict[int, NDArray[np.uint8]], dict[int, str]]:
        """Renders of one frame by camera, (H, W, 3) uint8; and the cameras without one, with the reason."""
        from thesis_assets.images.codecs import read_rgb

        renders: dict[int, NDArray[Any]] = {}
        missing: dict[int, str] = {}
        for cam_id in cam_ids:
            sample = self.samples.get(View(cam_id, fname))
            if sample is not None:
                self._used.add("samples")
                renders[cam_id] = read_rgb(sample)
                continue
            try:
                renders[cam_id] = self._render(fname, cam_id)
            except (MissingRender, RenderSizeMismatch) as error:
                missing[cam_id] = str(error).replace("\n", ";")
        return renders, missing

    def _render(self, fname: str, cam_id: int) -> NDArray[np.uint8]:
        from thesis_assets.images.quantise import quantise, to_host

        name, version = self._renderer.name, self._renderer.version
        self._used.add(version if version.startswith(name) else f"{name} {version}")
        batch = self._renderer.render(fname, [self._cell.scene.camera(cam_id, fname)])
        pixels: NDArray[np.uint8] = to_host(quantise(batch))[0]
        return pixels

    @cached_property
    def _renderer(self) -> Renderer:
        from thesis_assets.samples.triplet_export import scene_renderer

        cell = self._cell
        return scene_renderer(cell.difix, cell.scene, cell.experiment.generation, device=cell.device)
