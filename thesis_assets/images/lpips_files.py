"""Which files LPIPS takes its weights from, and their digest: known without loading torch."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.storage import sha256_file

BACKBONE_FILE = "vgg16-397923af.pth"
LINEAR_FILE = "vgg.pth"
WEIGHTS_VARIABLE = "THESIS_LPIPS_WEIGHTS"


@dataclass(frozen=True)
class LpipsFiles:
    """The two files: VGG16 trained on ImageNet, and the weights of its channels."""

    backbone: Path
    linear: Path

    def digest(self) -> str:
        """Of both contents."""
        return "+".join(_digest_of(path, path.stat().st_mtime_ns)[:16] for path in (self.backbone, self.linear))


def find_lpips(folder: Path | None) -> LpipsFiles:
    """The weights in `folder`; without one, in torch's hub cache, where the channel weights may be those of the package `lpips`.

    Raises:
        InvalidFile: one of the two is not there; the message says what to put where.
    """
    both = f"{BACKBONE_FILE} and {LINEAR_FILE}"
    if folder is not None:
        remedy = f"put {both} into {folder}; or leave {WEIGHTS_VARIABLE} unset, and let `make lpips` fetch them"
        return LpipsFiles(_existing([folder / BACKBONE_FILE], remedy), _existing([folder / LINEAR_FILE], remedy))
    cache = _hub() / "checkpoints"
    remedy = f"`make lpips` fetches {both} (0.5 GB); or put them into one folder and name it in {WEIGHTS_VARIABLE}"
    linear = [cache / LINEAR_FILE, *_packaged()]
    return LpipsFiles(_existing([cache / BACKBONE_FILE], remedy), _existing(linear, remedy))


def lpips_tool(folder: Path | None) -> dict[str, str]:
    """The digest of the weights as a tool of a record, without loading them; empty where they are not there."""
    try:
        return {"lpips": find_lpips(folder).digest()}
    except InvalidFile:
        return {}


def _hub() -> Path:
    """Where torch keeps what it fetched. Where nobody has loaded torch, nobody has told it another place."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return Path(torch.hub.get_dir())
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser() / "hub"


def _packaged() -> Iterator[Path]:
    package = importlib.util.find_spec("lpips")
    if package is not None and package.origin is not None:
        yield Path(package.origin).parent / "weights" / "v0.1" / LINEAR_FILE


def _existing(places: Sequence[Path], remedy: str) -> Path:
    for path in places:
        if os.access(path, os.R_OK) and path.is_file():  # `is_file` alone raises in a folder that may not be entered
            return path
    raise InvalidFile(
        "LPIPS needs a file of weights that is not there or cannot be read",
        file=places[0],
        wanted=f"{BACKBONE_FILE} (VGG16 of torchvision) and {LINEAR_FILE} (v0.1 of the package lpips)",
        remedy=remedy,
    )


@functools.lru_cache(maxsize=8)
def _digest_of(path: Path, stamp: int) -> str:
    del stamp  # part of the key: a replaced file is read again
    return sha256_file(path)
