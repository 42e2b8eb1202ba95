"""A training step of the difix backend and refining with it, at SD-turbo's size with random weights: time and memory on a GPU."""

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, seconds_of

ROUNDS, WARM_UP = 10, 3
SIDES = (512, 384)
"""What a photograph of 1280 x 940 is trained at with `resolution: 512`."""


@dataclass(frozen=True)
class Sizes:
    """Of the networks; the defaults are those of SD-turbo and VGG16."""

    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    text: int = 1024
    vae: tuple[int, ...] = (128, 256, 512, 512)
    vgg: tuple[int, ...] = (64, 128, 256, 512, 512)
    layers: int = 2
    groups: int = 32


def rows() -> Iterator[Row]:
    """Three ways to train one (render, reference) pair a step, and refining; skipped with the reason where there is no GPU."""
    import torch

    missing = [name for name in ("diffusers", "peft") if importlib.util.find_spec(name) is None]
    if missing or not torch.cuda.is_available():
        why = f"{', '.join(missing)} not installed" if missing else "this machine has no CUDA device"
        for name in (*(f"difix training step, {how}" for how in WAYS), "refine by difix"):
            yield Row("tuning", f"{name}, {SIDES[0]}x{SIDES[1]}", None, "", skipped=f"has not run on a GPU yet: {why}")
        return
    yield from measured(Sizes(), "cuda", SIDES)


WAYS = ("bf16", "bf16, gradient checkpointing", "full precision")


def measured(sizes: Sizes, device: str, sides: tuple[int, int]) -> Iterator[Row]:
    """The rows on `device`, by networks of `sizes` on images of `sides`."""
    import torch

    gpu = torch.cuda.get_device_name() if device == "cuda" else device
    for way in WAYS:
        training = Training(sizes, device, sides, bf16=way.startswith("bf16"), saves="checkpointing" in way)
        for _ in range(WARM_UP):
            training.step()
        seconds = seconds_of(lambda training=training: training.steps(ROUNDS)) / ROUNDS
        name = f"difix training step, {way}, {sides[0]}x{sides[1]}, {gpu}"
        yield Row("tuning", name, seconds, "s")
        if device == "cuda":
            yield Row("tuning", f"{name}: peak memory", torch.cuda.max_memory_allocated() / 1e9, "GB")
        if way == WAYS[-1]:
            training.refine()
            seconds = seconds_of(lambda training=training: training.refined(ROUNDS)) / ROUNDS
            yield Row("tuning", f"refine by difix, {sides[0]}x{sides[1]}, {gpu}", 1 / seconds, "images/s")
        del training


class Training:
    """Network, loss and optimizer of one way to train, as the loop has them."""

    def __init__(self, sizes: Sizes, device: str, sides: tuple[int, int], *, bf16: bool, saves: bool) -> None:
        import torch

        from thesis_assets.tuning.difix.checkpoint import DifixRefiner
        from thesis_assets.tuning.difix.training import DifixLoss, LossWeights

        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self.device, self.bf16 = device, bf16
        self.network = _network(sizes, device)
        self.network.train_only_what_is_tuned()
        if saves:
            self.network.checkpoint_gradients()
        self.loss = DifixLoss(LossWeights(1, 1, 1, 1), _vgg(sizes, device))
        self.parameters = [parameter for _, parameter in self.network.tuned_parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-6, fused=True)
        self.views = torch.rand(1, 2, 3, *sides, device=device)
        self.text = torch.rand(1, 77, sizes.text, device=device)
        self.refiner = DifixRefiner(self.network, "", self.text[0], max(sides), device, 0)

    def step(self) -> None:
        """One update."""
        import torch

        self.network.train()
        half = torch.autocast(self.device, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        with half:
            refined = self.network(self.views, self.text)
        terms = self.loss(refined.flatten(0, 1), self.views.flatten(0, 1), 1)
        torch.stack([term.mean() for term in terms.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()
        self._wait()

    def refine(self) -> None:
        """One image at its own size."""
        self.refiner.refine(self.views[:, 0], self.views[:, 1])

    def refined(self, count: int) -> None:
        for _ in range(count):
            self.refine()
        self._wait()

    def _wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


def _network(sizes: Sizes, device: str) -> Any:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from thesis_assets.tuning.difix.model_folder import ModelFolder
    from thesis_assets.tuning.difix.network import LORA_RANK, DifixNetwork, OneStep, add_lora, add_skips, lora_targets

    with torch.device(device):
        unet = UNet2DConditionModel(
            block_out_channels=sizes.unet,
            attention_head_dim=sizes.heads,
            cross_attention_dim=sizes.text,
            layers_per_block=sizes.layers,
            norm_num_groups=sizes.groups,
            use_linear_projection=True,
        )
        vae = AutoencoderKL(
            block_out_channels=sizes.vae,
            down_block_types=("DownEncoderBlock2D",) * len(sizes.vae),
            up_block_types=("UpDecoderBlock2D",) * len(sizes.vae),
            layers_per_block=sizes.layers,
            norm_num_groups=sizes.groups,
        )
        add_skips(vae)
        targets = lora_targets(vae)
        add_lora(vae, LORA_RANK, targets)
    step = OneStep(199, 0.755, "epsilon", None)
    network = DifixNetwork(
        ModelFolder(Path(), "random"), unet, vae, step, mv_unet=True, rank_vae=LORA_RANK, targets=targets
    )
    return network.to(device)


def _vgg(sizes: Sizes, device: str) -> Any:
    import torch

    from thesis_assets.images.perceptual import STAGES, Backbone, Lpips

    stages, inputs = [], 3
    for places, width in zip(STAGES, sizes.vgg, strict=True):
        stage = []
        for _ in places:
            stage.append(torch.nn.Conv2d(inputs, width, 3, padding=1))
            inputs = width
        stages.append(stage)
    channels = [torch.full((1, width, 1, 1), 1 / width) for width in sizes.vgg]
    return Lpips(Backbone(stages), channels, "random").to(device).eval().requires_grad_(False)
