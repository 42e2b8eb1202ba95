"""Which revision of which rasteriser draws here: told without torch, a GPU or a scene, for records of what was rendered."""

from importlib import metadata

TORCH_RASTERISER = "torch rasteriser"
TORCH_REVISION = 1
"""Raised when a change of the torch rasteriser or of the projection changes pixels."""
GSPLAT = "gsplat"


def rasteriser_on(device: str) -> str:
    """The rasteriser that draws Gaussians on a device."""
    return TORCH_RASTERISER if device == "cpu" else GSPLAT


def revision_of(rasteriser: str) -> str | None:
    """The revision that is here; None where there is none, or of an unknown name."""
    if rasteriser == TORCH_RASTERISER:
        return str(TORCH_REVISION)
    try:
        return metadata.version(GSPLAT) if rasteriser == GSPLAT else None
    except metadata.PackageNotFoundError:
        return None
