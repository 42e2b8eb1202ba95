"""The partitions of the graph: dynamic keys registered from experiment files, and the products of two of them.

Belongs here: partitions definitions and the value `Cell`, one key of any of them. Does not belong here: which cells are
declared (`platform`). Concept: https://docs.dagster.io/guides/build/partitions-and-backfills
"""

from dataclasses import dataclass
from typing import Literal

import dagster as dg

from thesis_assets.errors import InvalidKey

EXP_NAMES = dg.DynamicPartitionsDefinition(name="exp_name")
SCENE_NAMES = dg.DynamicPartitionsDefinition(name="scene_name")
RUN_NAMES = dg.DynamicPartitionsDefinition(name="run_name")
EXP_BY_SCENE = dg.MultiPartitionsDefinition({"exp_name": EXP_NAMES, "scene_name": SCENE_NAMES})
EXP_BY_RUN = dg.MultiPartitionsDefinition({"exp_name": EXP_NAMES, "run_name": RUN_NAMES})

CellKind = Literal["none", "exp", "exp_by_scene", "exp_by_run"]
PARTITIONS: dict[CellKind, dg.PartitionsDefinition[str] | None] = {
    "none": None,
    "exp": EXP_NAMES,
    "exp_by_scene": EXP_BY_SCENE,
    "exp_by_run": EXP_BY_RUN,
}


@dataclass(frozen=True, order=True)
class Cell:
    """One key of an asset: an experiment, with one of its scenes or one of its runs; empty for assets without partitions."""

    exp_name: str = ""
    scene_name: str = ""
    run_name: str = ""

    @property
    def key(self) -> str | None:
        """The partition key as Dagster writes it: `demo`, `demo|studio_pair00_hug`, `demo|tiny_a`."""
        if self.scene_name:
            return str(dg.MultiPartitionKey({"exp_name": self.exp_name, "scene_name": self.scene_name}))
        if self.run_name:
            return str(dg.MultiPartitionKey({"exp_name": self.exp_name, "run_name": self.run_name}))
        return self.exp_name or None

    def __str__(self) -> str:
        return self.key or "all"

    @classmethod
    def parse(cls, kind: CellKind, key: str | None) -> "Cell":
        """Read a partition key of an asset of that kind.

        Raises:
            InvalidKey: the key has another number of parts.
        """
        parts = key.split("|") if key else []
        match kind, parts:
            case "none", []:
                return cls()
            case "exp", [exp_name]:
                return cls(exp_name)
            case "exp_by_scene", [exp_name, scene_name]:
                return cls(exp_name, scene_name=scene_name)
            case "exp_by_run", [exp_name, run_name]:
                return cls(exp_name, run_name=run_name)
        raise InvalidKey("not a partition key of this asset", key=kind, found=ascii(key))
