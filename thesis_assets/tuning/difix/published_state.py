"""A checkpoint's published keys: to them from a network and its optimizer, and back, so that either side loads the other's file.

`state_dict_unet` has the whole U-Net, `state_dict_vae` the adapters and skips by peft's names, `optimizer` AdamW's state over the
published order of parameters: the U-Net, the adapters, then all there is of each skip once more, so that the skips' adapters stand
twice. What resuming and refining need beyond that are further top-level keys, which the published code passes over.
Does not belong here: files (`checkpoints`), and the keys that every backend's resume state has (`training_loop`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.model_folder import ModelFolder, find_model
from thesis_assets.tuning.difix.network import TIMESTEP, DifixNetwork, is_tuned, load_difix, put_into_vae
from thesis_assets.tuning.difix.prompts import DEFAULT_PROMPT
from thesis_assets.tuning.difix.skip_vae import SKIPS

PUBLISHED_KEYS = ("vae_lora_target_modules", "rank_vae", "state_dict_unet", "state_dict_vae", "optimizer")
RESOLUTION = 512
OWN_KEYS = ("timestep", "mv_unet", "prompt", "base_model")
"""What we add so that a file says how it is to be used; `base_model` has name, revision, variant and digest."""


def weights_to_published(network: DifixNetwork) -> dict[str, Any]:
    """The published keys but the optimizer. The tensors are the network's own."""
    return {
        "vae_lora_target_modules": list(network.targets),
        "rank_vae": network.rank_vae,
        "state_dict_unet": network.unet.state_dict(),
        "state_dict_vae": {name: weight for name, weight in network.vae.state_dict().items() if is_tuned(name)},
    }


def usage(network: DifixNetwork, prompt: str) -> dict[str, Any]:
    """`OWN_KEYS` of a network, with the prompt it is to be used with."""
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
    return {**state, **usage(network, prompt or DEFAULT_PROMPT), "resolution": resolution or RESOLUTION}


def check_published(state: Mapping[str, Any], file: Path) -> None:
    """Refuse a file whose published keys hold something else than their names say.

    Raises:
        InvalidFile: one of them does.
    """
    import torch

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
    """Put a checkpoint's weights into a network of the same base model.

    Raises:
        InvalidFile: they are not those of this network.
    """
    try:
        network.unet.load_state_dict(state["state_dict_unet"])
        put_into_vae(network.vae, state["state_dict_vae"])
    except (RuntimeError, ValueError) as error:
        raise InvalidFile(
            "the checkpoint's weights do not fit the base model",
            file=network.folder.path,
            found=" ".join(str(error).split())[:400],
        ) from error


def optimizer_to_published(network: DifixNetwork, state: Mapping[str, Any]) -> dict[str, Any]:
    """AdamW's state over `network.tuned_parameters()` (one group) as the state over the published order.

    torch numbers parameters by their place in the group, one that stands twice by its last place.
    """
    order = published_order(network)
    last = {name: place for place, name in enumerate(order)}
    (group,) = state["param_groups"]
    names = [name for name, _ in network.tuned_parameters()]
    return {
        "state": {last[names[number]]: moments for number, moments in state["state"].items()},
        "param_groups": [{**group, "params": [last[name] for name in order]}],
    }


def optimizer_from_published(network: DifixNetwork, state: Mapping[str, Any]) -> dict[str, Any]:
    """The way back of `optimizer_to_published`.

    Raises:
        InvalidFile: the state is over other parameters.
    """
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
    """The optimizer's part of a file that was not trained here: AdamW's defaults and no moments."""
    import torch

    optimizer = torch.optim.AdamW([parameter for _, parameter in network.tuned_parameters()], lr=2e-5)
    return optimizer_to_published(network, optimizer.state_dict())


def published_order(network: DifixNetwork) -> Sequence[str]:
    """The names of the parameters in the published optimizer's group; those of the skips' adapters stand twice."""
    unet = [f"unet.{name}" for name, _ in network.unet.named_parameters()]
    vae = [f"vae.{name}" for name, _ in network.vae.named_parameters()]
    adapters = [name for name in vae if "lora_" in name]
    skips = [name for skip in SKIPS for name in vae if name.startswith(f"vae.decoder.{skip}.")]
    return [*unet, *adapters, *skips]
