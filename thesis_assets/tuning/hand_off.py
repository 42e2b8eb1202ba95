"""Handing a chosen checkpoint to the 3DGS pipeline: YAML overrides for its configuration."""

import yaml

from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.storage import write_text

CHECKPOINT_KEY = "train.difix.model_checkpoint_path"


def write_pipeline_overrides(tree: TuningRunTree, selected: SelectedCheckpoint) -> None:
    """Write `pipeline_overrides.yaml`."""
    write_text(tree.pipeline_overrides, pipeline_overrides(selected))


def pipeline_overrides(selected: SelectedCheckpoint) -> str:
    """The overrides as YAML, with Hydra's form for the command line above them."""
    value: object = selected.path
    for key in reversed(CHECKPOINT_KEY.split(".")):
        value = {key: value}
    lines = [
        f"# Checkpoint of {selected.exp_name}/{selected.run_name}, step {selected.step}, rule {selected.rule}.",
        f"# sha256 {selected.sha256}",
        "# On Hydra's command line; the plus adds a key that the pipeline's configuration does not have yet:",
        f"#   {hydra_override(selected)}",
    ]
    return "\n".join([*lines, yaml.safe_dump(value, sort_keys=False, allow_unicode=True)])


def hydra_override(selected: SelectedCheckpoint) -> str:
    """`'+train.difix.model_checkpoint_path="<path>"'`, quoted for the shell and for Hydra's own grammar."""
    path = selected.path.replace("\\", "\\\\").replace('"', '\\"').replace("'", "'\\''")
    return f"""'+{CHECKPOINT_KEY}="{path}"'"""
