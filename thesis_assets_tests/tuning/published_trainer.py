"""A stand-in that behaves as the published trainer does, run by an environment that lacks this package: no part of the tests' own.

Its habits: wandb is imported always; `--max_train_steps` does not stop it; it saves at `step % checkpointing_steps == 1` and not
at its end, under the final name at once; nothing goes into eval/; there is no train_config.json, no `--base_model_id`; `--resume`
reads a step out of every `.pkl` name; it is unprepared for any signal, and leaves helper processes in sessions of their own.
"""

import argparse
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import wandb


def main() -> None:
    arguments = parse()
    # Slow to import, and `--help` does without.
    from accelerate import Accelerator
    from tqdm import tqdm

    assert importlib.util.find_spec("thesis_assets") is None, "this environment must not know the package"
    output = Path(arguments.output_dir)
    (output / "checkpoints").mkdir(parents=True, exist_ok=True)
    (output / "eval").mkdir(exist_ok=True)
    told = {"argv": sys.argv[1:], "python": sys.prefix}
    told |= {name.lower(): os.environ.get(name) for name in ("WANDB_MODE", "WANDB_DIR", "HF_HOME")}
    (output / "stand_in.json").write_text(json.dumps(told))
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    wandb.init(arguments.tracker_project_name)
    samples = json.loads(Path(arguments.dataset_path).read_text())["train"]
    assert len({"ref_image" in entry for entry in samples.values()}) == 1
    torch.manual_seed(arguments.seed)
    trained = network(arguments.initial_weights)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=arguments.learning_rate)
    step = resume(arguments.resume, trained, optimizer) if arguments.resume else 0
    helper = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", str(output)], start_new_session=True
    )
    read = (output / "read_samples.txt").open("a")
    order = torch.Generator().manual_seed(arguments.seed)
    bar = tqdm(range(arguments.max_train_steps), initial=step, desc="Steps")
    batches = math.ceil(len(samples) / (arguments.train_batch_size * accelerator.num_processes))
    for _ in range(arguments.num_training_epochs):
        shuffled = torch.randperm(len(samples), generator=order).tolist()
        read.write("\n")
        for place in range(batches // arguments.gradient_accumulation_steps):
            read.write(f"{shuffled[place]} ")
            read.flush()
            loss = trained()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            bar.update(1)
            bar.set_postfix(**{"loss/l2": f"{loss.item():.4f}", "loss/lpips": "0.5000"})
            if step % arguments.checkpointing_steps == 1:
                save(output / "checkpoints" / f"model_{step}.pkl", trained, optimizer)
            while step == arguments.hold_at and not Path(arguments.hold_until).exists():
                time.sleep(0.1)
            time.sleep(arguments.seconds_a_step)
    (output / "came_to_its_own_end").touch()
    helper.kill()


class Network(torch.nn.Module):
    """Weights by name. Trained towards zero: which network they belong to, nobody here knows.

    Args:
        unet: what is trained.
        rest: of the checkpoint, kept as it is.
    """

    def __init__(self, unet: dict[str, torch.Tensor], rest: dict[str, Any]) -> None:
        super().__init__()
        self.names, self.rest = list(unet), rest
        self.values = torch.nn.ParameterList(torch.nn.Parameter(weight.clone()) for weight in unet.values())

    def forward(self) -> torch.Tensor:
        return torch.stack([value.square().mean() for value in self.values]).mean()

    def unet(self) -> dict[str, torch.Tensor]:
        return {name: value.detach() for name, value in zip(self.names, self.values, strict=True)}

    def take(self, unet: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in zip(self.names, self.values, strict=True):
                value.copy_(unet[name])


def network(initial_weights: str | None) -> Network:
    """Of a file with the published keys, else of some random numbers."""
    if initial_weights is not None:
        state = torch.load(initial_weights, weights_only=True)
    else:
        linear, skip = torch.nn.Linear(4, 4).state_dict(), {"skip_conv_1.weight": torch.ones(2)}
        state = {"vae_lora_target_modules": ["conv1", "skip_conv_1"], "rank_vae": 4}
        state |= {"state_dict_unet": linear, "state_dict_vae": skip}
    rest = {name: state[name] for name in ("vae_lora_target_modules", "rank_vae", "state_dict_vae")}
    return Network(state["state_dict_unet"], rest)


def resume(path: str, network: Network, optimizer: torch.optim.Optimizer) -> int:
    found = sorted(Path(path).glob("*.pkl")) if Path(path).is_dir() else [Path(path)]
    newest = max(found, key=lambda file: int(file.stem.removeprefix("model_")))
    state = torch.load(newest, weights_only=True)
    network.take(state["state_dict_unet"])
    optimizer.load_state_dict(state["optimizer"])
    return int(newest.stem.removeprefix("model_"))


def save(path: Path, network: Network, optimizer: torch.optim.Optimizer) -> None:
    buffer = io.BytesIO()
    torch.save({**network.rest, "state_dict_unet": network.unet(), "optimizer": optimizer.state_dict()}, buffer)
    content = buffer.getvalue()
    with path.open("wb") as handle:
        # Five gigabytes take a while: for some time the file is there, and not whole.
        handle.write(content[: len(content) // 2])
        handle.flush()
        time.sleep(1.3)
        handle.write(content[len(content) // 2 :])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("dataset_path", "output_dir", "resume", "report_to", "tracker_run_name", "mixed_precision"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--tracker_project_name", default="train_difix")
    parser.add_argument("--pretrained_model_name_or_path")
    parser.add_argument("--num_training_epochs", type=int, default=10)
    parser.add_argument("--max_train_steps", type=int, default=10_000)
    for name in ("checkpointing_steps", "eval_freq", "viz_freq", "resolution", "train_batch_size", "timestep", "seed"):
        parser.add_argument(f"--{name}", type=int, default=1)
    for name in ("gradient_accumulation_steps", "dataloader_num_workers", "gram_loss_warmup_steps"):
        parser.add_argument(f"--{name}", type=int, default=1)
    for name in ("learning_rate", "max_grad_norm", "lambda_lpips", "lambda_l2", "lambda_gram"):
        parser.add_argument(f"--{name}", type=float, default=1.0)
    parser.add_argument("--mv_unet", action="store_true")
    parser.add_argument("--initial_weights")
    parser.add_argument("--hold_at", type=int, help="wait after this step until --hold_until is there")
    parser.add_argument("--hold_until")
    parser.add_argument("--seconds_a_step", type=float, default=0.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
