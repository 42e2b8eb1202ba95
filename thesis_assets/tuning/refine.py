"""Refining renders with a checkpoint: images in, images of the same size out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from thesis_assets.errors import InvalidFile
from thesis_assets.storage import write_bytes
from thesis_assets.tuning.checkpoints import TINY_KEYS, WEIGHTS, load_checkpoint
from thesis_assets.tuning.resolution import processing_size, resize

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class RefinesImages(Protocol):
    """Whatever the backend: renders and their references in, refined renders of the renders' size out."""

    def refine(self, renders: Tensor, references: Tensor) -> Tensor:
        """(B, 3, H, W) and (B, 3, H', W') float32 in [0, 1] to (B, 3, H, W)."""
        ...


@dataclass(frozen=True)
class Refiner:
    """A network at its resolution, on its device.

    The network's correction is brought to the render's own size and added there: the render itself is never resized, so
    that details the network does not touch stay, and a correction of zero gives the render back exactly.
    """

    correct: Callable[[Tensor, Tensor], Tensor]
    """(renders, references), sides multiples of 16, to the correction of the same shape."""
    resolution: int
    device: str
    step: int

    def refine(self, renders: Tensor, references: Tensor) -> Tensor:
        """Refined renders.

        Args:
            renders: (B, 3, H, W) float32 in [0, 1], any size and device.
            references: (B, 3, H', W') float32 in [0, 1]: the reference view of each render.

        Returns:
            (B, 3, H, W) float32 in [0, 1], on the refiner's device.
        """
        import torch

        with torch.inference_mode():
            renders = renders.to(self.device)
            height, width = renders.shape[-2:]
            size = processing_size(height, width, self.resolution)
            correction = self.correct(resize(renders, size), resize(references.to(self.device), size))
            return (renders + resize(correction.float(), (height, width))).clamp(0, 1)


def load_refiner(checkpoint: Path, device: str = "cpu", *, model: str | None = None) -> RefinesImages:
    """The refiner of a `.pkl` of ours, or of the published trainer. Its side file is not asked: it may have been copied away.

    Args:
        model: the base model of a DiFix checkpoint, in place of the one that the file or its run names.

    Raises:
        InvalidFile: the file is no checkpoint, or its base model cannot be had.
    """
    state = load_checkpoint(checkpoint)
    if set(state) >= set(TINY_KEYS):
        return _tiny_refiner(checkpoint, state, device)
    from thesis_assets.tuning.difix.refiner import refiner_of_checkpoint

    return refiner_of_checkpoint(checkpoint, state, device, model=model)


def _tiny_refiner(checkpoint: Path, state: Mapping[str, Any], device: str) -> Refiner:
    from thesis_assets.tuning.tiny_model import TinyArchitecture, network_with

    try:
        network = network_with(TinyArchitecture(**state["architecture"]), state[WEIGHTS])
    except (TypeError, RuntimeError, ValueError) as error:
        raise InvalidFile(
            "the checkpoint's weights do not fit the network it names", file=checkpoint, found=str(error)[:300]
        ) from error
    return Refiner(network.to(device), int(state["resolution"]), device, int(state.get("step", 0)))


def refine_file(
    checkpoint: Path, image: Path, reference: Path, out: Path, device: str = "cpu", *, model: str | None = None
) -> None:
    """Refine one render on disk; `out` is written as PNG. `model`: as of `load_refiner`.

    Raises:
        InvalidFile: the checkpoint or an image cannot be read.
    """
    _refine_onto(load_refiner(checkpoint, device, model=model), image, reference, out)


def refine_folder(
    checkpoint: Path, images: Path, references: Path, out: Path, device: str = "cpu", *, model: str | None = None
) -> list[Path]:
    """Refine every PNG or JPEG of a folder, each onto `<out>/<stem>.png`, by one loaded checkpoint.

    Args:
        references: one image for all, or a folder with an image of each render's stem.
        model: as of `load_refiner`.

    Returns:
        What was written.

    Raises:
        InvalidFile: there is no image, two have one stem, or one lacks its reference; nothing was written then. Or the
            checkpoint or an image cannot be read.
    """
    renders = _by_stem(images)
    views = _by_stem(references) if references.is_dir() else dict.fromkeys(renders, references)
    lacking = sorted(set(renders) - set(views))
    if lacking:
        raise InvalidFile(
            "a render has no reference of its name",
            file=renders[lacking[0]],
            found=f"{len(lacking)} of {len(renders)} without one",
            wanted=f"{lacking[0]}.png or .jpg in {references}",
        )
    refiner = load_refiner(checkpoint, device, model=model)
    for stem, path in renders.items():
        _refine_onto(refiner, path, views[stem], out / f"{stem}.png")
    return [out / f"{stem}.png" for stem in renders]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in found:
                raise InvalidFile("two images of a folder have one name", file=path, found=found[path.stem].name)
            found[path.stem] = path
    if not found:
        raise InvalidFile("the folder has no image", file=folder, wanted="PNG or JPEG files")
    return found


def _refine_onto(refiner: RefinesImages, image: Path, reference: Path, out: Path) -> None:
    import torch

    from thesis_assets.images.codecs import encode_png, read_rgb
    from thesis_assets.images.quantise import quantise

    render, view = (
        torch.from_numpy(read_rgb(path).copy()).permute(2, 0, 1)[None].float() / 255 for path in (image, reference)
    )
    write_bytes(out, encode_png(quantise(refiner.refine(render, view))[0].cpu().numpy()))
