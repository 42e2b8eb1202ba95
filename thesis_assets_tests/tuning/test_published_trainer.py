"""Beside the published trainer's rules, written down here anew: one step is the same, and each goes on from the other's file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from thesis_assets.layout import DifixTree
from thesis_assets.tuning.backends import DIFIX
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS, RESUME_KEYS, load_checkpoint
from thesis_assets.tuning.difix.checkpoint import fresh_optimizer, weights_to_published
from thesis_assets.tuning.difix.network import DifixNetwork, load_difix
from thesis_assets.tuning.difix.training import DifixTraining
from thesis_assets.tuning.run_config import parse_flags
from thesis_assets.tuning.trained_model import TripletImages
from thesis_assets.tuning.trainer_program import main
from thesis_assets_tests.tuning.difix_models import write_sd_turbo
from thesis_assets_tests.tuning.snapshots import arguments, write_snapshot
from thesis_assets_tests.tuning.test_difix_checkpoints import published_parts

pytest.importorskip("diffusers", reason="the extra difix is not installed")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """A snapshot beside a base model."""
    home = tmp_path_factory.mktemp("home")
    write_sd_turbo(home / "sd-turbo")
    return write_snapshot(home / "data")


def flags_of(tree: DifixTree, run_name: str, **changes: Any) -> list[str]:
    plain = {"lambda_lpips": 0, "lambda_gram": 0, "num_samples_eval": 2, "learning_rate": 1e-3, **changes}
    base = tree.base.parents[1] / "sd-turbo"
    return [*arguments(tree, run_name, pretrained_model_name_or_path=base, **plain), "--mv_unet"]


class AcrossTwoViews:
    """Self-attention over the tokens of both views of a sample, as the published U-Net has it."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        views, tokens, channels = hidden_states.shape
        joined = hidden_states.reshape(views // 2, 2 * tokens, channels)
        parts = [
            one(joined).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for one in (attn.to_q, attn.to_k, attn.to_v)
        ]
        found = attn.to_out[0](scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        return found.reshape(views, tokens, channels)  # type: ignore[no-any-return]


def published_step(unet: Any, vae: Any, views: Tensor, wanted: Tensor, text: Tensor) -> Tensor:
    """The loss of one training step: images in [-1, 1], one denoising step, decoded with skips, clamped, mean squared error.

    The posterior's mean stands in place of a draw from it.
    """
    from diffusers import DDPMScheduler

    processors = {name: AcrossTwoViews() if ".attn1." in name else one for name, one in unet.attn_processors.items()}
    unet.set_attn_processor(processors)
    images, entering = views.flatten(0, 1) * 2 - 1, []
    hooks = [
        block.register_forward_hook(lambda _module, given, _out: entering.append(given[0]))
        for block in vae.encoder.down_blocks
    ]
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mode() * vae.config.scaling_factor
    for hook in hooks:
        hook.remove()
    predicted = unet(latents, 199, encoder_hidden_states=text.repeat_interleave(2, dim=0)).sample
    kept = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    ).alphas_cumprod[199]
    clean = (latents - (1 - kept).sqrt() * predicted) / kept.sqrt()
    decoder, x = vae.decoder, vae.post_quant_conv(clean / vae.config.scaling_factor)
    x = decoder.mid_block(decoder.conv_in(x))
    for number, (block, skipped) in enumerate(zip(decoder.up_blocks, reversed(entering), strict=True), start=1):
        x = block(x + getattr(decoder, f"skip_conv_{number}")(skipped))
    decoded = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x))).clamp(-1, 1)
    return (decoded - (wanted.flatten(0, 1) * 2 - 1)).square().mean()


def published_state(network: DifixNetwork) -> dict[str, Any]:
    return {**weights_to_published(network), "optimizer": fresh_optimizer(network)}


def test_one_step_from_the_same_weights_and_images_has_the_same_loss_and_gradients(tree: DifixTree) -> None:
    torch.manual_seed(0)
    training = DifixTraining(parse_flags(flags_of(tree, "r")))
    with torch.no_grad():
        for _, parameter in training.network.tuned_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    render, target, reference = torch.rand(3, 1, 3, 32, 48)
    images = TripletImages(render, target, reference, ["a_sample"])
    loss = training.losses(lambda views, text: training.network(views, text).clamp(0, 1), images, 1)["l2"].mean()
    loss.backward()

    unet, vae, parameters = published_parts(tree.base.parents[1] / "sd-turbo", published_state(training.network))
    for parameter in parameters:
        parameter.requires_grad_(True)  # adapters froze the skips below them
    text = training._texts[training.prompt][None]
    theirs = published_step(unet, vae, torch.stack([render, reference], 1), torch.stack([target, reference], 1), text)
    theirs.backward()

    assert loss.item() == pytest.approx(theirs.item(), abs=1e-4)
    of_theirs = {
        f"{part}.{name}": one for part, each in (("unet", unet), ("vae", vae)) for name, one in each.named_parameters()
    }
    n_compared = 0
    for name, parameter in training.network.tuned_parameters():
        assert parameter.grad is not None, name
        gradient = of_theirs[name].grad
        assert gradient is not None, name
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-4, rtol=1e-3, msg=name)
        n_compared += int(gradient.abs().max() > 1e-7)
    assert n_compared > 50, "gradients of nought compare with anything"


def test_its_file_is_gone_on_from_here_and_ours_there(tree: DifixTree, tmp_path: Path) -> None:
    base = tree.base.parents[1] / "sd-turbo"
    unet, vae, parameters = published_parts(base, published_state(load_difix(base)))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = torch.optim.AdamW([one.requires_grad_(True) for one in parameters], lr=1e-3)
    published_step(
        unet, vae, torch.rand(1, 2, 3, 32, 32), torch.rand(1, 2, 3, 32, 32), torch.ones(1, 77, 16)
    ).backward()
    optimizer.step()
    state = published_state(load_difix(base))
    file = {
        **state,
        "state_dict_unet": unet.state_dict(),
        "state_dict_vae": {name: one for name, one in vae.state_dict().items() if "lora" in name or "skip" in name},
        "optimizer": optimizer.state_dict(),
    }
    assert set(file) == set(PUBLISHED_KEYS)
    torch.save(file, tmp_path / "model_3.pkl")

    # Nothing moves by a rate of nought: what is saved are the weights that it went on from, and one step more of its moments.
    flags = flags_of(
        tree, "gone_on", max_train_steps=4, checkpointing_steps=4, resume=tmp_path / "model_3.pkl", learning_rate=0
    )
    assert main(flags, DIFIX) == 0
    ours = load_checkpoint(tree.tuning_run("gone_on").checkpoint(4))
    for part in ("state_dict_unet", "state_dict_vae"):
        for name, weight in file[part].items():
            assert torch.equal(ours[part][name], weight), name
    made = [int(moments["step"]) for moments in ours["optimizer"]["state"].values()]
    # Its optimizer has the skips' eight adapters twice, and makes two steps with them where ours makes one.
    assert (set(made), made.count(3)) == ({2, 3}, 8)
    assert set(RESUME_KEYS) <= set(ours)

    unet, vae, parameters = published_parts(base, ours)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = torch.optim.AdamW([one.requires_grad_(True) for one in parameters], lr=1e-3)
    optimizer.load_state_dict(ours["optimizer"])
    published_step(
        unet, vae, torch.rand(1, 2, 3, 32, 32), torch.rand(1, 2, 3, 32, 32), torch.ones(1, 77, 16)
    ).backward()
    optimizer.step()
    assert int(optimizer.state[parameters[0]]["step"]) == 3
