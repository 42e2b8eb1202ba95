"""Text for the U-Net: prompts through the base model's own CLIP tokenizer and text encoder, each of them once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.model_folder import ModelFolder

DEFAULT_PROMPT = "remove degradation"


def encode_prompts(folder: ModelFolder, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Each different prompt as (L, D) float32 on the CPU. The text encoder is frozen and let go afterwards.

    Raises:
        InvalidFile: tokenizer or text encoder cannot be read.
    """
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        # Its bar over some hundred weights would stand on stderr of every command and in every trainer's log.
        logging.disable_progress_bar()
        tokenizer = CLIPTokenizer.from_pretrained(str(folder.path / "tokenizer"))
        encoder = CLIPTextModel.from_pretrained(
            str(folder.path / "text_encoder"), variant=folder.variant, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:
        raise InvalidFile(
            "the base model's tokenizer or text encoder cannot be read",
            file=folder.path,
            found=" ".join(str(error).split())[:400],
        ) from error
    different = sorted(set(prompts))
    tokens = tokenizer(
        different,
        max_length=tokenizer.model_max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        encoded = encoder.eval()(tokens.input_ids)[0]
    # A copy: what inference mode makes may not take part in a backward pass.
    return {prompt: text.clone() for prompt, text in zip(different, encoded, strict=True)}
