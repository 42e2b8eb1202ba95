"""What a run is made of, and the lock that this puts on its name: `train_config.json`, written before its launch, and its digests."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

from thesis_assets.errors import InvalidFile, InvalidKey, SnapshotChanged
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import CheckpointInfo, TrainConfig
from thesis_assets.splits.data_json import content_of_file, folder_of_configuration, former_folders
from thesis_assets.storage import read_json, write_json
from thesis_assets.tuning.checkpoints import list_checkpoints
from thesis_assets.tuning.trainer_flags import RunFlags, TrainerFlags, hyperparameters

PACKAGES = ("thesis-assets", "torch", "accelerate", "numpy", "pillow", "diffusers", "transformers", "peft")


def make_config(
    tree: DifixTree,
    run_name: str,
    *,
    backend: str,
    flags: RunFlags,
    notes: Sequence[str],
    command: Sequence[str],
    device: str,
    data_json_sha256: str,
    manifest_sha256: Mapping[str, str],
    n_train: int,
    n_test: int,
) -> TrainConfig:
    """The configuration of a run on this snapshot, with the versions and the source revision of this installation."""
    return TrainConfig(
        exp_name=tree.exp_name,
        run_name=run_name,
        backend=backend,
        flags=flags.values(),
        hyperparameter_digest=flags.hyperparameter_digest(),
        launch_command=list(command),
        seed=flags.seed,
        device=device,
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        git_revision=_git_revision(),
        data_json=str(tree.data_json.absolute()),
        data_json_sha256=data_json_sha256,
        manifest_sha256=dict(manifest_sha256),
        n_train_samples=n_train,
        n_test_samples=n_test,
        notes=list(notes),
    )


def lock_config(tree: DifixTree, config: TrainConfig) -> TrainConfig:
    """Write the configuration, or refuse where the run's name has another one already. The first one is never overwritten.

    Returns:
        The one that is there now.

    Raises:
        SnapshotChanged: other data or other hyperparameters; the message has the differences.
    """
    run_tree = tree.tuning_run(config.run_name)
    if not run_tree.train_config.is_file():
        write_json(run_tree.train_config, config)
        return config
    present = read_json(run_tree.train_config, TrainConfig)
    differences = _differences(present, config, same_data=is_trained_on(tree, present))
    if differences:
        steps = list_checkpoints(run_tree)
        raise SnapshotChanged(
            f"the run {config.run_name} is there already, on other data or with other hyperparameters",
            file=run_tree.train_config,
            key=", ".join(differences),
            found="; ".join(f"{key}: {wanted}" for key, (_, wanted) in differences.items()),
            wanted="; ".join(f"{key}: {found}" for key, (found, _) in differences.items()),
            remedy=f"give the changed run another name under `runs` (this one has {len(steps)} checkpoints"
            + (
                "), or change it back" if steps else f"; remove {run_tree.base} if it is not wanted), or change it back"
            ),
        )
    return present


def is_trained_on(tree: DifixTree, config: TrainConfig) -> bool:
    """Whether the snapshot's data.json says what a run was trained on.

    The version before named it by its bytes, which hold the paths of where the snapshot lay then.
    """
    folders = chain([folder_of_configuration(config.data_json)], former_folders(tree))
    try:
        return content_of_file(tree.data_json).is_named(config.data_json_sha256, folders)
    except InvalidFile:
        return False


def snapshot_of(run_tree: TuningRunTree, data_json: Path) -> DifixTree | None:
    """The snapshot that both the run's folder and its data.json belong to."""
    try:
        tree = run_tree.snapshot
    except InvalidKey:
        return None
    return tree if (tree.data_json, tree.tuning_run(run_tree.base.name)) == (data_json.absolute(), run_tree) else None


def _differences(present: TrainConfig, wanted: TrainConfig, *, same_data: bool) -> dict[str, tuple[object, object]]:
    """What the weights depend on and differs: key to (there, asked for)."""
    pairs: dict[str, tuple[object, object]] = {"backend": (present.backend, wanted.backend)}
    defaults = {field.name: field.default for field in fields(TrainerFlags)}
    if not same_data:
        pairs["data_json_sha256"] = (present.data_json_sha256, wanted.data_json_sha256)
    for name in hyperparameters({**wanted.flags, **present.flags}):
        asked = wanted.flags.get(name)
        # What was done before a setting came, for configurations that do not know it: as with the trainer's default.
        pairs[name] = (present.flags.get(name, defaults.get(name, asked)), asked)
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_revision() -> str | None:
    """The source's commit, with `-dirty` where files differ from it; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


@dataclass(frozen=True)
class RunIdentity:
    """What the weights depend on, as digests.

    Attributes:
        is_same_data: whether another digest, of the version before, names the same data.
    """

    data_json_sha256: str
    hyperparameter_digest: str
    is_same_data: Callable[[str], bool] = lambda sha256: False

    def refuse_another(self, tree: TuningRunTree, info: CheckpointInfo) -> None:
        """Refuse, by `SnapshotChanged`, to go on from a checkpoint of other data or hyperparameters."""
        for key in ("data_json_sha256", "hyperparameter_digest"):
            found, wanted = getattr(self, key), getattr(info, key)
            if found != wanted and not (key == "data_json_sha256" and self.is_same_data(wanted)):
                raise SnapshotChanged(
                    "the run's checkpoints were trained on other data or with other hyperparameters",
                    file=tree.checkpoint_info(info.step),
                    key=key,
                    found=found,
                    wanted=wanted,
                    remedy="train under another run name; a finished run is never changed",
                )
