"""The lock of a run's checkpoints on their data and hyperparameters, as the trainer keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from thesis_assets.errors import SnapshotChanged
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import CheckpointInfo


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
        """Refuse to go on from a checkpoint of another identity.

        Raises:
            SnapshotChanged: it was trained on other data or with other hyperparameters.
        """
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
