"""A DiFix checkpoint: its published keys, the refiner of one, and the diffusers directory that it becomes or came from.

`state_dict_unet` has the whole U-Net, `state_dict_vae` the adapters and skips by peft's names, `optimizer` AdamW's state over the
published order of parameters: the U-Net, the adapters, then all there is of each skip once more, so that the skips' adapters stand
twice. What resuming and refining need beyond that are further top-level keys, which the published code passes over.
The directory, which a `DifixPipeline` loads, has the published layout: the VAE's file holds base layers, adapters and skips by
peft's names, `model_index.json` names the two parts that come with a module of their own (`autoencoder_kl.py` and
`unet_2d_condition.py` beside this file, which import nothing of ours), `difix.json` what it was made from.
Does not belong here: reading and writing files of checkpoints (`checkpoints`), and the keys of every backend's resume state.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import CONVERTED_RECORD, TuningRunTree
from thesis_assets.schemas.tuning import ConvertedModel, TrainConfig
from thesis_assets.storage import atomic_directory, atomic_file, read_json, sha256_file, write_json
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS, load_checkpoint
from thesis_assets.tuning.difix.model_folder import CROSS_VIEW_MODULE, PUBLISHED_BASE, ModelFolder, find_model
from thesis_assets.tuning.difix.network import (
    DEFAULT_PROMPT,
    SKIPS,
    TIMESTEP,
    DifixNetwork,
    encode_prompts,
    is_tuned,
    load_difix,
    network_of_weights,
    put_into_vae,
)
from thesis_assets.tuning.trained_model import PUBLISHED_LONG_SIDE, one_a_render, processing_size, resize

UNET_ADAPTERS = "state_dict_unet_lora"
"""Where the U-Net's adapters stand, which the published keys have added into its weights; of the optimizer, its state over them."""


def weights_to_published(network: DifixNetwork) -> dict[str, Any]:
    """The published keys but the optimizer. The tensors are the network's own."""
    return {
        "vae_lora_target_modules": list(network.targets),
        "rank_vae": network.rank_vae,
        "state_dict_unet": network.unet_weights(),
        "state_dict_vae": {name: weight for name, weight in network.vae.state_dict().items() if is_tuned(name)},
    }


def usage(network: DifixNetwork, prompt: str) -> dict[str, Any]:
    """What we add to the published keys, so that a file says how it is to be used."""
    folder = network.folder
    return {
        "timestep": network.step.timestep,
        "mv_unet": network.mv_unet,
        "prompt": prompt,
        "base_model": {
            "name": folder.name,
            "revision": folder.revision,
            "variant": folder.variant,
            "digest": folder.digest(),
        },
    }


def state_of_model(
    model: str | Path,
    *,
    timestep: int | None = None,
    mv_unet: bool | None = None,
    prompt: str | None = None,
    resolution: int | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
) -> dict[str, Any]:
    """The keys of a checkpoint for a base model as it is: the published ones, the optimizer without moments, and ours.

    What is None is taken from a converted directory's record, else the published default.

    Args:
        revision, variant, cache_dir: as `find_model` takes them.
        mv_unet: for a model that does not say whether its views look at each other; a published DiFix directory does.

    Raises:
        InvalidFile: the model cannot be had or read.
    """
    folder = find_model(model, revision=revision, variant=variant, cache_dir=cache_dir)
    said, record = folder.crosses_views(), folder.record()
    if record is not None:
        timestep = record.timestep if timestep is None else timestep
        prompt, resolution = prompt or record.prompt, resolution or record.resolution
    network = load_difix(
        folder, timestep=TIMESTEP if timestep is None else timestep, mv_unet=mv_unet if said is None else said
    )
    state = {**weights_to_published(network), "optimizer": fresh_optimizer(network)}
    return {**state, **usage(network, prompt or DEFAULT_PROMPT), "resolution": resolution or PUBLISHED_LONG_SIDE}


def check_published(state: Mapping[str, Any], file: Path) -> None:
    """Refuse, by `InvalidFile`, a file whose published keys hold something else than their names say."""
    targets, rank = state["vae_lora_target_modules"], state["rank_vae"]
    wrong: dict[str, str] = {}
    if not isinstance(rank, int) or rank < 1:
        wrong["rank_vae"] = "a whole number above 0"
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        wrong["vae_lora_target_modules"] = "a list of names"
    for key in ("state_dict_unet", "state_dict_vae"):
        weights = state[key]
        if not isinstance(weights, Mapping) or not all(isinstance(one, torch.Tensor) for one in weights.values()):
            wrong[key] = "tensors by name"
    for key, wanted in wrong.items():
        raise InvalidFile(
            "the checkpoint has the published keys, but not what they stand for",
            file=file,
            key=key,
            found=repr(state[key])[:100],
            wanted=wanted,
        )


def refuse_another_base(folder: ModelFolder, state: Mapping[str, Any]) -> None:
    """Refuse a base model whose frozen parts are not those of the checkpoint's training, where the checkpoint says which.

    Raises:
        InvalidFile: a file of it is another one.
    """
    wanted = (state.get("base_model") or {}).get("digest")
    if wanted is not None and folder.digest() != wanted:
        raise InvalidFile(
            "the base model is not the one that the checkpoint was trained on",
            file=folder.path,
            key="base_model.digest",
            found=folder.digest(),
            wanted=wanted,
            remedy="restore its files, or name the right one (--model, where a checkpoint is used)",
        )


def load_weights(network: DifixNetwork, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a network of the same base model. `InvalidFile`: they do not fit it.

    Of a network whose U-Net has adapters these alone: the U-Net is the base model's, which must be the one of the training.
    """
    try:
        if network.lora_rank:
            _load_adapters(network, state)
        else:
            network.unet.load_state_dict(state["state_dict_unet"])
        put_into_vae(network.vae, state["state_dict_vae"])
    except (RuntimeError, ValueError) as error:
        raise InvalidFile(
            "the checkpoint's weights do not fit the base model",
            file=network.folder.path,
            found=" ".join(str(error).split())[:400],
        ) from error


def _load_adapters(network: DifixNetwork, state: Mapping[str, Any]) -> None:
    adapters = state.get(UNET_ADAPTERS)
    if adapters is None:
        raise ValueError(f"it has no {UNET_ADAPTERS}: its U-Net was tuned whole, and this run has lora_rank_unet")
    untouched = "conv_in.weight"
    if not torch.equal(network.unet.state_dict()[untouched].cpu(), state["state_dict_unet"][untouched]):
        raise ValueError("its adapters were tuned on another U-Net than the base model's")
    if set(adapters) != set(network.unet_adapters()):
        raise ValueError(f"{UNET_ADAPTERS} are not over this U-Net's layers")
    network.unet.load_state_dict(adapters, strict=False)


def optimizer_to_published(network: DifixNetwork, state: Mapping[str, Any]) -> dict[str, Any]:
    """AdamW's state over `network.tuned_parameters()` (one group) as the state over the published order.

    torch numbers parameters by their place in the group, one that stands twice by its last place.
    """
    order = published_order(network)
    last = {name: place for place, name in enumerate(order)}
    if network.lora_rank:
        # Over adapters: the published trainer has no such parameters, and finds an optimizer without moments.
        return {**fresh_optimizer(network), UNET_ADAPTERS: dict(state)}
    (group,) = state["param_groups"]
    names = [name for name, _ in network.tuned_parameters()]
    return {
        "state": {last[names[number]]: moments for number, moments in state["state"].items()},
        "param_groups": [{**group, "params": [last[name] for name in order]}],
    }


def optimizer_from_published(network: DifixNetwork, state: Mapping[str, Any]) -> dict[str, Any]:
    """The way back of `optimizer_to_published`. `InvalidFile`: the state is over other parameters."""
    if network.lora_rank:
        if UNET_ADAPTERS not in state:
            raise InvalidFile(
                "the optimizer's state is not over this run's adapters", key="optimizer", wanted=UNET_ADAPTERS
            )
        return dict(state[UNET_ADAPTERS])
    order = published_order(network)
    groups = state["param_groups"]
    if len(groups) != 1 or len(groups[0]["params"]) != len(order):
        raise InvalidFile(
            "the optimizer's state is over other parameters than this network's",
            key="optimizer",
            found=[len(group["params"]) for group in groups],
            wanted=[len(order)],
        )
    numbers = dict(zip(order, groups[0]["params"], strict=True))
    names = [name for name, _ in network.tuned_parameters()]
    return {
        "state": {
            place: state["state"][numbers[name]] for place, name in enumerate(names) if numbers[name] in state["state"]
        },
        "param_groups": [{**groups[0], "params": list(range(len(names)))}],
    }


def fresh_optimizer(network: DifixNetwork) -> dict[str, Any]:
    """The optimizer's part of a file that is not gone on from: AdamW's defaults and no moments."""
    one = torch.optim.AdamW([torch.zeros(1)], lr=2e-5).state_dict()["param_groups"][0]
    order = published_order(network)
    last = {name: place for place, name in enumerate(order)}
    return {"state": {}, "param_groups": [{**one, "params": [last[name] for name in order]}]}


def published_order(network: DifixNetwork) -> Sequence[str]:
    """The names of the parameters in the published optimizer's group; those of the skips' adapters stand twice."""
    unet = [
        f"unet.{name.replace('.base_layer.', '.')}"
        for name, _ in network.unet.named_parameters()
        if "lora_" not in name
    ]
    vae = [f"vae.{name}" for name, _ in network.vae.named_parameters()]
    adapters = [name for name in vae if "lora_" in name]
    skips = [name for skip in SKIPS for name in vae if name.startswith(f"vae.decoder.{skip}.")]
    return [*unet, *adapters, *skips]


@dataclass(frozen=True)
class DifixRefiner:
    """A network on its device with its prompt. What leaves the VAE is the image, not a correction to the render.

    Attributes:
        text: the encoded prompt, (L, D).
    """

    network: DifixNetwork
    prompt: str
    text: Tensor
    resolution: int
    device: str
    step: int

    def refine(self, renders: Tensor, references: Tensor, *, consume: bool = False) -> Tensor:
        """Refined renders.

        Args:
            renders: (B, 3, H, W) float32 in [0, 1], any size and device.
            references: (B, 3, H', W') float32 in [0, 1], or (1, 3, H', W') for all; looked at where the network crosses views.
            consume: the result lies in memory of its own anyway.

        Returns:
            (B, 3, H, W) float32 in [0, 1], on the refiner's device.
        """
        with torch.inference_mode():
            height, width = renders.shape[-2:]
            size = processing_size(height, width, self.resolution)
            views = [resize(renders.to(self.device), size)]
            if self.network.mv_unet:
                views.append(one_a_render(resize(references.to(self.device), size), len(renders)))
            text = self.text.expand(len(renders), -1, -1)
            # The class's own forward: around the instance's accelerate may have put half precision.
            refined = DifixNetwork.forward(self.network, torch.stack(views, dim=1), text, first_only=True)
            return resize(refined[:, 0], (height, width)).clamp(0, 1)


def refiner_of_checkpoint(
    checkpoint: Path, state: Mapping[str, Any], device: str = "cpu", *, model: str | None = None
) -> DifixRefiner:
    """The refiner of a `.pkl` with the published keys, ours or the published trainer's.

    What the file does not say is asked of the `train_config.json` of its run, then of the published trainer's defaults.

    Args:
        state: the file's content.
        model: the base model, in place of the one that the file or its run names.

    Raises:
        InvalidFile: the base model cannot be had, or is another one than that of the training.
    """
    check_published(state, checkpoint)
    folder = _base_model(checkpoint, state, model)
    # A setting that is None was left open, which is no answer.
    said = {name: value for name, value in {**_flags_of_run(checkpoint), **state}.items() if value is not None}
    network = network_of_weights(
        folder,
        state["state_dict_unet"],
        state["state_dict_vae"],
        timestep=int(said.get("timestep", TIMESTEP)),
        mv_unet=said.get("mv_unet"),
        rank_vae=int(state["rank_vae"]),
        targets=state["vae_lora_target_modules"],
    )
    prompt, resolution = said.get("prompt", DEFAULT_PROMPT), int(said.get("resolution", PUBLISHED_LONG_SIDE))
    text = encode_prompts(network.folder, [prompt])[prompt].to(device)
    network, step = network.to(device).requires_grad_(False), int(said.get("step", 0))
    return DifixRefiner(network, prompt, text, resolution, device, step)


def _base_model(checkpoint: Path, state: Mapping[str, Any], model: str | None = None) -> ModelFolder:
    """The base model of a checkpoint, the very files of its training where the checkpoint says which."""
    said = state.get("base_model") or {}
    flags = _flags_of_run(checkpoint)
    of_run = flags.get("pretrained_model_name_or_path") or flags.get("base_model_id")
    name = model or said.get("name") or of_run or PUBLISHED_BASE
    try:
        folder = find_model(
            name,
            revision=None if model else said.get("revision", flags.get("revision")),
            variant=said.get("variant", flags.get("variant")),
            cache_dir=flags.get("cache_dir"),
        )
    except InvalidFile as error:
        raise InvalidFile(
            f"the base model of the checkpoint cannot be had: {error.problem}",
            file=error.file,
            key="base_model",
            found=error.found,
            wanted=name,
            remedy=f"name it by --model ({checkpoint} holds what was tuned, not the rest of the base model)",
        ) from error
    refuse_another_base(folder, state)
    return folder


def _flags_of_run(checkpoint: Path) -> Mapping[str, Any]:
    """Flags in the `train_config.json` of the run that the checkpoint lies in; none where it was copied away."""
    path = TuningRunTree(checkpoint.absolute().parent.parent).train_config
    return read_json(path, TrainConfig).flags if path.is_file() else {}


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
    from diffusers import DDPMScheduler

    refiner = refiner_of_checkpoint(checkpoint, state, model=model)
    network = refiner.network
    with atomic_directory(out) as folder:
        _copy_text_parts(network.folder, folder)
        schedule = DDPMScheduler.from_pretrained(str(network.folder.path / "scheduler"))
        schedule.save_pretrained(str(folder / "scheduler"))
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
            ema_decay=state.get("ema_decay"),
        )
        write_json(folder / CONVERTED_RECORD, record)
    return out


def to_checkpoint(directory: Path, out: Path) -> Path:
    """Write a DiFix directory, one of ours or a published one, as a checkpoint with the published keys.

    Its optimizer has no moments: it can be refined with, or trained on from, not resumed as the run it came from.

    Raises:
        InvalidFile: the directory lacks a part, or there is a file at `out` already.
    """
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


def _write_unet(network: DifixNetwork, folder: Path) -> None:
    from thesis_assets.tuning.difix import unet_2d_condition

    _write_part(folder, "unet", network.folder.config("unet"), network.unet.state_dict())
    if network.mv_unet:
        shutil.copy(inspect.getfile(unet_2d_condition), folder / "unet" / f"{CROSS_VIEW_MODULE}.py")


def _write_vae(network: DifixNetwork, folder: Path) -> None:
    from thesis_assets.tuning.difix import autoencoder_kl

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
