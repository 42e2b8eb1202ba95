"""Where a base model lies: a diffusers directory on disk or in the Hub's cache, which of its files are read, their digest.

Only safetensors files are read. `sd-turbo` has plain parts; a published DiFix directory has a VAE with skips and adapters.
Does not belong here: making networks of the files.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, pip_install
from thesis_assets.layout import CONVERTED_RECORD
from thesis_assets.schemas.tuning import ConvertedModel
from thesis_assets.storage import read_json, read_json_value, sha256_file, sha256_value

PACKAGES = ("diffusers", "transformers", "peft")
PUBLISHED_BASE = "stabilityai/sd-turbo"
"""What the published trainer starts from; its checkpoints do not say."""
CROSS_VIEW_MODULE = "unet_2d_condition"
"""The module that a published directory names for a U-Net whose attention crosses views."""
_HUB_ID = re.compile(r"^[\w-][\w.-]*/[\w.-]+$")
_DIFFUSERS_WEIGHTS, _TEXT_WEIGHTS = "diffusion_pytorch_model", "model"


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers directory.

    Attributes:
        name: as the user wrote it: the directory, or the Hub id.
        revision: of the Hub id.
        variant: `fp16` takes `*.fp16.safetensors`.
    """

    path: Path
    name: str
    revision: str | None = None
    variant: str | None = None

    def config(self, part: str) -> dict[str, Any]:
        """`<part>/config.json`."""
        return dict(read_json_value(self.path / part / "config.json"))

    def weights(self, part: str) -> Path:
        """The file of weights of `vae`, `unet` or `text_encoder`."""
        stem = _TEXT_WEIGHTS if part == "text_encoder" else _DIFFUSERS_WEIGHTS
        return self.path / part / f"{stem}{f'.{self.variant}' if self.variant else ''}.safetensors"

    def crosses_views(self) -> bool | None:
        """Whether the directory names the cross-view U-Net; None where it is no published DiFix directory."""
        if not self.has_adapters():
            return None
        index = read_json_value(self.path / "model_index.json")
        return bool(index.get("unet", [""])[0] == CROSS_VIEW_MODULE)

    def has_adapters(self) -> bool:
        """Whether the VAE has skips and adapters already: a published DiFix directory."""
        return "lora_rank" in self.config("vae")

    def record(self) -> ConvertedModel | None:
        """What a directory of ours was made from; None for any other."""
        path = self.path / CONVERTED_RECORD
        return read_json(path, ConvertedModel) if path.is_file() else None

    def digest(self) -> str:
        """Of every file a network reads but the U-Net's weights, which a checkpoint holds itself."""
        files = [path for path in self._frozen_files() if path.is_file()]
        return sha256_value(
            [[str(path.relative_to(self.path)), _digest_of(path, path.stat().st_mtime_ns)] for path in files]
        )

    def _frozen_files(self) -> Iterator[Path]:
        for part in ("vae", "text_encoder"):
            yield self.path / part / "config.json"
            yield self.weights(part)
        for name in ("vocab.json", "merges.txt", "tokenizer.json"):
            yield self.path / "tokenizer" / name
        yield self.path / "scheduler" / "scheduler_config.json"
        yield self.path / "unet" / "config.json"


def find_model(
    model: str | Path, *, revision: str | None = None, variant: str | None = None, cache_dir: str | None = None
) -> ModelFolder:
    """The directory of a base model. A Hub id is downloaded once into the Hub's cache.

    Args:
        model: a directory, or a Hub id (`stabilityai/sd-turbo`, `nvidia/difix_ref`).
        cache_dir: in place of the Hub's usual cache.

    Raises:
        InvalidFile: it is neither, cannot be had, or lacks a part; or a package of the extra `difix` is missing.
    """
    require_packages()
    path = Path(model).expanduser()
    if path.is_dir():
        folder = ModelFolder(path.absolute(), str(path.absolute()), None, variant)
    elif _HUB_ID.match(str(model)):
        folder = ModelFolder(_download(str(model), revision, variant, cache_dir), str(model), revision, variant)
    else:
        raise InvalidFile(
            "the base model is neither a directory nor a Hub id",
            file=model,
            key="runs.<run_name>.model",
            wanted=f"a diffusers directory, or an id such as {PUBLISHED_BASE}",
        )
    _check_parts(folder)
    return folder


def require_packages() -> None:
    """Refuse, by `InvalidFile`, where a package of the extra `difix` is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidFile(
            "the difix backend needs packages that are not installed",
            key="runs.<run_name>.backend",
            found=f"without {', '.join(missing)}",
            wanted=", ".join(PACKAGES),
            remedy=pip_install("'thesis-assets[difix]'"),
        )


def import_packages() -> None:
    """Import what a network is made of, before any part of it is read: a package that does not fit another is no fault of the model.

    Raises:
        InvalidFile: with the words of the import that fails.
    """
    require_packages()
    for package, name in (
        *(("diffusers", name) for name in ("AutoencoderKL", "UNet2DConditionModel", "DDPMScheduler")),
        *(("transformers", name) for name in ("CLIPTextModel", "CLIPTokenizer")),
        ("peft", "LoraConfig"),
    ):
        try:
            getattr(importlib.import_module(package), name)
        except Exception as error:  # diffusers and transformers wrap whatever a package below them raised
            cause: BaseException = error
            while (deeper := cause.__cause__ or cause.__context__) is not None:
                cause = deeper
            raise InvalidFile(
                f"`from {package} import {name}` fails in this environment",
                key="runs.<run_name>.backend",
                found=f"{type(cause).__name__}: {' '.join(str(cause).split())[:400]}",
                remedy="mend that import: most often a torchvision (or xformers, flash-attn) that was built for another torch; "
                "install the one that belongs to yours, or uninstall it",
            ) from error


def _download(model: str, revision: str | None, variant: str | None, cache_dir: str | None) -> Path:
    from huggingface_hub import snapshot_download

    infix = f".{variant}" if variant else ""
    patterns = ["model_index.json", "tokenizer/*", "scheduler/*.json", "*/config.json"]
    patterns += [f"{part}/{_DIFFUSERS_WEIGHTS}{infix}.safetensors" for part in ("vae", "unet")]
    patterns += [f"unet/{_DIFFUSERS_WEIGHTS}*{infix}-of-*.safetensors", "unet/*.safetensors.index*.json"]
    patterns += [f"text_encoder/{_TEXT_WEIGHTS}{infix}.safetensors"]
    try:
        return Path(snapshot_download(model, revision=revision, cache_dir=cache_dir, allow_patterns=patterns))
    except Exception as error:  # the client's own, its network's and its transfer library's
        raise InvalidFile(
            "the base model cannot be had from the Hub",
            file=model,
            key="runs.<run_name>.model",
            found=f"{type(error).__name__}: {str(error)[:300]}",
            remedy="look at the id and the network; where a licence must be accepted, do so on its page and log in "
            "(`hf auth login`); or download it elsewhere and name the directory",
        ) from error


def _check_parts(folder: ModelFolder) -> None:
    wanted = [folder.path / part / "config.json" for part in ("vae", "unet", "text_encoder")]
    wanted += [folder.path / "scheduler" / "scheduler_config.json", folder.path / "tokenizer"]
    wanted += [folder.weights("vae"), folder.weights("text_encoder")]
    sharded = folder.path / "unet" / f"{_DIFFUSERS_WEIGHTS}.safetensors.index.json"
    wanted += [] if sharded.is_file() else [folder.weights("unet")]
    for path in wanted:
        if not path.exists():
            raise InvalidFile(
                "the base model lacks a part",
                file=path,
                key="runs.<run_name>.model",
                wanted="a diffusers directory with vae/, unet/, text_encoder/, tokenizer/ and scheduler/, weights as safetensors",
                remedy="download it whole; where the weights are half precision only, add `--variant fp16` in extra_args",
            )


@functools.lru_cache(maxsize=64)
def _digest_of(path: Path, stamp: int) -> str:
    del stamp  # part of the key: a replaced file is read again
    return sha256_file(path)
