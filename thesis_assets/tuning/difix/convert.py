"""A checkpoint as a diffusers directory that a `DifixPipeline` loads, and such a directory as a checkpoint.

The directory has the published layout: the VAE's file holds base layers, adapters and skips by peft's names, `model_index.json` names
the two parts that come with a module of their own. Beside it `difix.json` says what the directory was made from.
Does not belong here: networks, and the checkpoint's keys.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import CONVERTED_RECORD
from thesis_assets.schemas.tuning import ConvertedModel
from thesis_assets.storage import atomic_directory, atomic_file, sha256_file, write_json
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS, load_checkpoint
from thesis_assets.tuning.difix.model_folder import CROSS_VIEW_MODULE, ModelFolder, find_model
from thesis_assets.tuning.difix.network import DifixNetwork
from thesis_assets.tuning.difix.published_state import state_of_model
from thesis_assets.tuning.difix.refiner import refiner_of_checkpoint

TEXT_PREFIX = "text_model."
PIPELINE_VERSION = "0.25.1"
"""Of diffusers, as the published directories say: the pipeline's code is of that version."""


def to_directory(checkpoint: Path, out: Path, *, model: str | None = None) -> Path:
    """Write a DiFix checkpoint as a directory. One that an earlier call wrote is replaced.

    Args:
        model: the base model, in place of the one that the checkpoint or its run names.

    Raises:
        InvalidFile: it is no DiFix checkpoint, its base model cannot be had, or something else is at `out`.
    """
    state = load_checkpoint(checkpoint)
    if not set(state) >= set(PUBLISHED_KEYS):
        raise InvalidFile(
            "only a DiFix checkpoint can become a diffusers directory",
            file=checkpoint,
            found=sorted(state),
            wanted=PUBLISHED_KEYS,
        )
    _refuse_to_replace(out)
    refiner = refiner_of_checkpoint(checkpoint, state, model=model)
    network = refiner.network
    with atomic_directory(out) as folder:
        _copy_text_parts(network.folder, folder)
        _write_schedule(network.folder, folder)
        _write_unet(network, folder)
        _write_vae(network, folder)
        write_json(folder / "model_index.json", _model_index(network.mv_unet))
        record = ConvertedModel(
            checkpoint=str(checkpoint.absolute()),
            checkpoint_sha256=sha256_file(checkpoint),
            step=refiner.step,
            timestep=network.step.timestep,
            mv_unet=network.mv_unet,
            prompt=refiner.prompt,
            resolution=refiner.resolution,
            base_model=network.folder.name,
        )
        write_json(folder / CONVERTED_RECORD, record)
    return out


def to_checkpoint(directory: Path, out: Path) -> Path:
    """Write a DiFix directory, one of ours or a published one, as a checkpoint with the published keys.

    Its optimizer has no moments: it can be refined with, or trained on from, not resumed as the run it came from.

    Raises:
        InvalidFile: the directory lacks a part, or there is a file at `out` already.
    """
    import torch

    if out.exists():
        raise InvalidFile("there is a file already", file=out, remedy="name another one, or remove it")
    record = find_model(directory).record()
    state = state_of_model(directory)
    state["step"] = record.step if record else 0
    with atomic_file(out) as temporary, temporary.open("wb") as handle:
        torch.save(state, handle)
    return out


def _refuse_to_replace(out: Path) -> None:
    if out.exists() and not (out / CONVERTED_RECORD).is_file():
        raise InvalidFile(
            "something else is there, and would be lost",
            file=out,
            found="a directory" if out.is_dir() else "a file",
            wanted=f"nothing, or a directory of an earlier conversion (with {CONVERTED_RECORD})",
            remedy="name another directory",
        )


def _copy_text_parts(base: ModelFolder, folder: Path) -> None:
    shutil.copytree(base.path / "tokenizer", folder / "tokenizer")
    from safetensors.torch import load_file

    # transformers 5 writes these names without their prefix; the pipeline's version would take random weights instead.
    weights = load_file(base.weights("text_encoder"))
    prefixed = {name if name.startswith(TEXT_PREFIX) else TEXT_PREFIX + name: one for name, one in weights.items()}
    _write_part(folder, "text_encoder", base.config("text_encoder"), prefixed)


def _write_schedule(base: ModelFolder, folder: Path) -> None:
    from diffusers import DDPMScheduler

    DDPMScheduler.from_pretrained(str(base.path / "scheduler")).save_pretrained(str(folder / "scheduler"))


def _write_unet(network: DifixNetwork, folder: Path) -> None:
    from thesis_assets.tuning.difix.pipeline_parts import unet_2d_condition

    _write_part(folder, "unet", network.folder.config("unet"), network.unet.state_dict())
    if network.mv_unet:
        shutil.copy(inspect.getfile(unet_2d_condition), folder / "unet" / f"{CROSS_VIEW_MODULE}.py")


def _write_vae(network: DifixNetwork, folder: Path) -> None:
    from thesis_assets.tuning.difix.pipeline_parts import autoencoder_kl

    known = set(inspect.signature(autoencoder_kl.AutoencoderKL.__init__).parameters) | {"_class_name"}
    config = {name: value for name, value in network.folder.config("vae").items() if name in known}
    config |= {"lora_rank": network.rank_vae, "gamma": 1.0, "ignore_skip": False}
    _write_part(folder, "vae", config, network.vae.state_dict())
    shutil.copy(inspect.getfile(autoencoder_kl), folder / "vae")


def _write_part(folder: Path, part: str, config: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    (folder / part).mkdir()
    write_json(folder / part / "config.json", dict(config))
    # The format's mark: without it diffusers takes the file for one of another framework.
    contiguous = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(contiguous, ModelFolder(folder, "").weights(part), metadata={"format": "pt"})


def _model_index(mv_unet: bool) -> dict[str, Any]:
    absent: list[str | None] = [None, None]
    return {
        "_class_name": "DifixPipeline",
        "_diffusers_version": PIPELINE_VERSION,
        "feature_extractor": absent,
        "image_encoder": absent,
        "requires_safety_checker": False,
        "safety_checker": absent,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": [CROSS_VIEW_MODULE if mv_unet else "diffusers", "UNet2DConditionModel"],
        "vae": ["autoencoder_kl", "AutoencoderKL"],
    }
