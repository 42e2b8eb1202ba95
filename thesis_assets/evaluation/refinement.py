"""Refining the renders of one frame with a checkpoint: batches of one image size, the source camera's image as reference."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.layout import TuningRunTree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thesis_assets.tuning.trained_model import RefinesImages

MAX_BATCH = 8
"""Images a forward pass: bounds the memory, whatever the number of cameras."""


class Refinement:
    """One checkpoint over one scene. The model is loaded at the first frame."""

    def __init__(self, cell: EvaluationCell, step: int) -> None:
        self._cell, self._step = cell, step

    @cached_property
    def refiner(self) -> RefinesImages:
        """The checkpoint's model, verified before it is loaded; kept for the next scene in the same process."""
        run = self._cell.tuning_run
        stamps = tuple(
            storage.file_stamp(path) if path.is_file() else None
            for path in (run.checkpoint(self._step), run.checkpoint_info(self._step))
        )
        return _verified_refiner(run, self._step, self._cell.device, stamps)

    def of_frame(self, fname: str, renders: Mapping[int, NDArray[np.uint8]]) -> dict[int, NDArray[np.uint8]]:
        """Refined renders of one frame, with the source camera's image of that frame as reference.

        Args:
            renders: (H, W, 3) uint8 by camera.

        Returns:
            The same cameras and sizes.
        """
        refined: dict[int, NDArray[np.uint8]] = {}
        reference = self._reference(fname)
        for cam_ids in _batches(renders):
            pixels = self.refine([renders[cam_id] for cam_id in cam_ids], [reference] * len(cam_ids))
            refined |= dict(zip(cam_ids, pixels, strict=True))
        return refined

    def refine(
        self, renders: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]]
    ) -> list[NDArray[np.uint8]]:
        """One batch: renders of one size, and a reference each, of one size too. Returns the renders' size."""
        from thesis_assets.images.quantise import quantise, to_host

        return list(to_host(quantise(self.refiner.refine(_tensor(renders), _tensor(references)))))

    def _reference(self, fname: str) -> NDArray[np.uint8]:
        from thesis_assets.images.codecs import read_rgb

        scene, source = self._cell.scene, self._cell.source_camera()
        path = scene.image_path(source, fname)
        if path is None:
            raise InvalidScene(
                "the source camera has no image of a frame", file=scene.tree.ground_truth.image(source, fname)
            )
        image = read_rgb(path)
        return self._masked(image, fname, source) if self._cell.experiment.generation.filtering.apply_mask else image

    def _masked(self, image: NDArray[np.uint8], fname: str, source: int) -> NDArray[np.uint8]:
        """Black outside the people, as in the samples; a scene without masks keeps the whole image."""
        import numpy as np

        from thesis_assets.images.codecs import read_mask

        path = self._cell.scene.mask_path(source, fname)
        return image if path is None else np.where(read_mask(path)[..., None], image, np.uint8(0))


def forget_refiners() -> None:
    """Free the memory of the model that this process keeps."""
    _verified_refiner.cache_clear()


@functools.lru_cache(maxsize=1)
def _verified_refiner(run: TuningRunTree, step: int, device: str, stamps: tuple[str | None, ...]) -> RefinesImages:
    """`stamps` of the files: another file of the same name is verified and loaded anew."""
    del stamps
    from thesis_assets.tuning.checkpoints import verify_checkpoint
    from thesis_assets.tuning.refine import load_refiner

    verify_checkpoint(run, step)
    return load_refiner(run.checkpoint(step), device)


def _tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _batches(renders: Mapping[int, NDArray[np.uint8]]) -> Iterator[list[int]]:
    """Cameras of one image size, at most `MAX_BATCH` at a time."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for cam_id, pixels in renders.items():
        by_size.setdefault(pixels.shape, []).append(cam_id)
    for cam_ids in by_size.values():
        for start in range(0, len(cam_ids), MAX_BATCH):
            yield cam_ids[start : start + MAX_BATCH]
