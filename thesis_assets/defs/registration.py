"""From experiment files to partition keys: what is new, what is withdrawn, which files are refused.

Keys are added, never removed here: a withdrawn experiment's history stays until somebody asks.
"""

from dataclasses import dataclass, field

import dagster as dg

from thesis_assets.defs.partitions import EXP_NAMES, RUN_NAMES, SCENE_NAMES
from thesis_assets.defs.platform import Platform
from thesis_assets.errors import ThesisAssetsError

POOLS = ("gpu", "render", "upload")


@dataclass(frozen=True)
class Registration:
    """What registering would do, by partition dimension; `refused` has the reason by experiment."""

    added: dict[str, list[str]]
    withdrawn: dict[str, list[str]]
    cells: dict[str, dict[str, list[str]]]
    """By experiment: its scenes and its runs."""
    refused: dict[str, str] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)

    @property
    def n_added(self) -> int:
        return sum(len(keys) for keys in self.added.values())


def plan_registration(platform: Platform, instance: dg.DagsterInstance) -> Registration:
    """Compare the experiment files with the registered keys. A bad file is refused alone; the others go on."""
    wanted: dict[str, list[str]] = {"exp_name": [], "scene_name": [], "run_name": []}
    cells: dict[str, dict[str, list[str]]] = {}
    refused: dict[str, str] = {}
    for name in platform.experiments.names():
        try:
            spec = platform.experiments.read(name)
            scenes = platform.scene_names(spec)
        except ThesisAssetsError as error:
            refused[name] = str(error)
            continue
        cells[name] = {"scenes": scenes, "runs": list(spec.runs)}
        wanted["exp_name"].append(name)
        wanted["scene_name"] += [scene for scene in scenes if scene not in wanted["scene_name"]]
        wanted["run_name"] += [run for run in spec.runs if run not in wanted["run_name"]]
    registered = {
        definition.name: instance.get_dynamic_partitions(definition.name)
        for definition in (EXP_NAMES, SCENE_NAMES, RUN_NAMES)
        if definition.name is not None
    }
    slots = {"gpu": platform.settings.gpu_slots, "render": platform.workers, "upload": 1}
    return Registration(
        added={name: [key for key in keys if key not in registered[name]] for name, keys in wanted.items()},
        withdrawn={
            name: [key for key in keys if key not in wanted[name] and key not in refused]
            for name, keys in registered.items()
        },
        cells=cells,
        refused=refused,
        pools={pool: slots[pool] for pool in POOLS},
    )


def register(instance: dg.DagsterInstance, registration: Registration) -> None:
    """Add the new keys and set the pools' slots on the instance."""
    for name, keys in registration.added.items():
        if keys:
            instance.add_dynamic_partitions(name, keys)
    if instance.event_log_storage.supports_global_concurrency_limits:
        for pool, slots in registration.pools.items():
            instance.event_log_storage.set_concurrency_slots(pool, slots)
