"""The published pipeline's way with a diffusers directory: loaded by diffusers alone, and its order of calls."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def pipeline_of(directory: Path) -> Any:
    """The published pipeline's parts, loaded by diffusers as it does."""
    from diffusers import DiffusionPipeline

    class DifixPipeline(DiffusionPipeline):  # type: ignore[misc]
        _optional_components = ["safety_checker", "feature_extractor", "image_encoder"]

        def __init__(
            self,
            vae: Any,
            text_encoder: Any,
            tokenizer: Any,
            unet: Any,
            scheduler: Any,
            safety_checker: Any = None,
            feature_extractor: Any = None,
            image_encoder: Any = None,
            requires_safety_checker: bool = True,
        ) -> None:
            super().__init__()
            self.register_modules(
                vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
            )

    return DifixPipeline.from_pretrained(str(directory), trust_remote_code=True)


def refine_by(pipeline: Any, render: "torch.Tensor", reference: "torch.Tensor", prompt: str) -> "torch.Tensor":
    """The order of calls of the published pipeline, with the posterior's mean in place of a draw from it."""
    import torch

    with torch.no_grad():
        tokens = pipeline.tokenizer(
            prompt, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        text = pipeline.text_encoder(tokens)[0]
        encoded = pipeline.vae.encode(torch.cat([render, reference]) * 2 - 1).latent_dist.mode()
        latents = encoded * pipeline.vae.config.scaling_factor
        pipeline.scheduler.set_timesteps(timesteps=[199])
        (timestep,) = pipeline.scheduler.timesteps
        predicted = pipeline.unet(latents, timestep, encoder_hidden_states=torch.cat([text, text]), return_dict=False)[
            0
        ]
        latents = pipeline.scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        pipeline.vae.decoder.incoming_skip_acts = pipeline.vae.encoder.current_down_blocks
        decoded = pipeline.vae.decode(latents[:1] / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    refined: torch.Tensor = (decoded / 2 + 0.5).clamp(0, 1)
    return refined
