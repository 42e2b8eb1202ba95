"""Refining renders with a checkpoint: images in, images of the same size out."""

from __future__ import annotations

from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.storage import write_bytes
from thesis_assets.tuning.checkpoints import TINY_KEYS, load_checkpoint
from thesis_assets.tuning.trained_model import RefinesImages

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def load_refiner(checkpoint: Path, device: str = "cpu", *, model: str | None = None) -> RefinesImages:
    """The refiner of a `.pkl` of ours, or of the published trainer. Its side file is not asked: it may have been copied away.

    Args:
        model: the base model of a DiFix checkpoint, in place of the one that the file or its run names.

    Raises:
        InvalidFile: the file is no checkpoint, or its base model cannot be had.
    """
    state = load_checkpoint(checkpoint)
    if set(state) >= set(TINY_KEYS):
        from thesis_assets.tuning.tiny_model import tiny_refiner

        return tiny_refiner(checkpoint, state, device)
    from thesis_assets.tuning.difix.checkpoint import refiner_of_checkpoint

    return refiner_of_checkpoint(checkpoint, state, device, model=model)


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
