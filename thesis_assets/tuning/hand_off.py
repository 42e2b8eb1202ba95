"""Handing a chosen checkpoint to the 3DGS pipeline: YAML overrides for its configuration."""

import shlex
from pathlib import Path

import yaml

from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import CheckpointInfo, SelectedCheckpoint
from thesis_assets.storage import read_json
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS

CHECKPOINT_KEY = "train.difix.model_checkpoint_path"
DIRECTORY_KEY = "train.difix.model_id"


def overrides_bytes(tree: TuningRunTree, selected: SelectedCheckpoint) -> bytes:
    """The content of `pipeline_overrides.yaml`.

    Raises:
        InvalidFile: the checkpoint's side file cannot be read.
    """
    published = set(read_json(tree.checkpoint_info(selected.step), CheckpointInfo).keys) >= set(PUBLISHED_KEYS)
    return pipeline_overrides(selected, as_directory=published).encode("utf-8")


def pipeline_overrides(selected: SelectedCheckpoint, *, as_directory: bool = False) -> str:
    """The overrides as YAML, with Hydra's form for the command line above them.

    Args:
        as_directory: say also how the checkpoint becomes a directory, the form that pipelines of today read.
    """
    value: object = selected.path
    for key in reversed(CHECKPOINT_KEY.split(".")):
        value = {key: value}
    lines = [
        f"# Checkpoint of {selected.exp_name}/{selected.run_name}, step {selected.step}, rule {selected.rule}.",
        f"# sha256 {selected.sha256}",
        "# On Hydra's command line; the plus adds a key that the pipeline's configuration does not have yet:",
        f"#   {hydra_override(selected)}",
    ]
    if as_directory:
        directory = str(Path(selected.path).with_suffix(""))
        lines += [
            "# Where it reads diffusers directories only, convert the checkpoint first:",
            f"#   thesis-assets checkpoint convert --checkpoint {shlex.quote(selected.path)} --out {shlex.quote(directory)}",
            f"#   {directory_override(directory)}",
        ]
    return "\n".join([*lines, yaml.safe_dump(value, sort_keys=False, allow_unicode=True)])


def hydra_override(selected: SelectedCheckpoint) -> str:
    """`'+train.difix.model_checkpoint_path="<path>"'`, quoted for the shell and for Hydra's own grammar."""
    return _override(f"+{CHECKPOINT_KEY}", selected.path)


def directory_override(directory: str) -> str:
    """`'train.difix.model_id="<directory>"'`, for a converted directory: the pipeline has this key."""
    return _override(DIRECTORY_KEY, directory)


def _override(key: str, path: str) -> str:
    quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("'", "'\\''")
    return f"""'{key}="{quoted}"'"""
