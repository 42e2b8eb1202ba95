"""Which files LPIPS takes its weights from, and their digest: known without loading torch."""

from __future__ import annotations

import contextlib
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
FILES = {"vgg": (BACKBONE_FILE, LINEAR_FILE), "alex": ("alexnet-owt-7be5be79.pth", "alex.pth")}
"""By network: the backbone of torchvision, and the channel weights of v0.1 of the package `lpips`."""
COLUMNS = {"vgg": "lpips", "alex": "lpips_alex", "vgg_3dgs": "lpips_vgg_3dgs"}
"""By convention, as `evaluation.nvs.lpips` names it: the column of its numbers. One never stands in another's."""
WEIGHTS_VARIABLE = "THESIS_LPIPS_WEIGHTS"


@dataclass(frozen=True)
class LpipsFiles:
    """The two files: a backbone trained on ImageNet, and the weights of its channels."""

    backbone: Path
    linear: Path

    def digest(self) -> str:
        """Of both contents."""
        return "+".join(_digest_of(path, path.stat().st_mtime_ns)[:16] for path in (self.backbone, self.linear))


def network_of(convention: str) -> str:
    """`vgg` or `alex`: which network a convention of LPIPS looks through."""
    return convention.partition("_")[0]


def find_lpips(folder: Path | None, network: str = "vgg") -> LpipsFiles:
    """The weights in `folder`; without one, in torch's hub cache, where the channel weights may be those of the package `lpips`.

    Args:
        network: a key of `FILES`.

    Raises:
        InvalidFile: one of the two is not there; the message says what to put where.
    """
    backbone, linear = FILES[network]
    both, target = f"{backbone} and {linear}", "lpips" if network == "vgg" else f"lpips-{network}"
    if folder is not None:
        remedy = f"put {both} into {folder}; or leave {WEIGHTS_VARIABLE} unset, and let `make {target}` fetch them"
        places, linears = [folder / backbone], [folder / linear]
    else:
        cache = _hub() / "checkpoints"
        remedy = f"`make {target}` fetches {both}; or put them into one folder and name it in {WEIGHTS_VARIABLE}"
        places, linears = [cache / backbone], [cache / linear, *_packaged(linear)]
    return LpipsFiles(_existing(places, both, remedy), _existing(linears, both, remedy))


def lpips_tool(folder: Path | None, conventions: Sequence[str] = ("vgg",)) -> dict[str, str]:
    """The digests of the weights as tools of a record, by column, without loading them; those that are not there are left out."""
    found: dict[str, str] = {}
    for convention in conventions:
        with contextlib.suppress(InvalidFile):
            found[COLUMNS[convention]] = find_lpips(folder, network_of(convention)).digest()
    return found


def _hub() -> Path:
    """Where torch keeps what it fetched. Where nobody has loaded torch, nobody has told it another place."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return Path(torch.hub.get_dir())
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser() / "hub"


def _packaged(linear: str) -> Iterator[Path]:
    package = importlib.util.find_spec("lpips")
    if package is not None and package.origin is not None:
        yield Path(package.origin).parent / "weights" / "v0.1" / linear


def _existing(places: Sequence[Path], both: str, remedy: str) -> Path:
    for path in places:
        if os.access(path, os.R_OK) and path.is_file():  # `is_file` alone raises in a folder that may not be entered
            return path
    raise InvalidFile(
        "LPIPS needs a file of weights that is not there or cannot be read",
        file=places[0],
        wanted=f"{both}: of torchvision, and of v0.1 of the package lpips",
        remedy=remedy,
    )


@functools.lru_cache(maxsize=8)
def _digest_of(path: Path, stamp: int) -> str:
    del stamp  # part of the key: a replaced file is read again
    return sha256_file(path)
