"""The settings of a run as `train_config.json` keeps them, whichever backend they are for.

Our trainers have `TrainerFlags`; a backend that runs another's program, or nothing, has the values that it really uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from thesis_assets.storage import sha256_value
from thesis_assets.tuning.trainer_flags import NOT_HYPERPARAMETERS


class RunFlags(Protocol):
    """Settings by name, and which of them the weights depend on."""

    @property
    def seed(self) -> int: ...

    def values(self) -> dict[str, Any]:
        """Every setting."""
        ...

    def hyperparameter_digest(self) -> str:
        """Of what the weights depend on, beside the data."""
        ...


@dataclass(frozen=True)
class PlainFlags:
    """Settings that are no `TrainerFlags`."""

    settings: Mapping[str, Any]
    seed: int

    def values(self) -> dict[str, Any]:
        """See `RunFlags.values`."""
        return dict(self.settings)

    def hyperparameter_digest(self) -> str:
        """See `RunFlags.hyperparameter_digest`."""
        return sha256_value(hyperparameters(self.settings))


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the weights depend on."""
    return {name: value for name, value in settings.items() if name not in NOT_HYPERPARAMETERS}
