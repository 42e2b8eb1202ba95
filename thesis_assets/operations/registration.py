"""From experiment files to partition keys: what is new, what is withdrawn, which files are refused; and what becomes of scenes that a
frozen experiment does not take: its fork does where its file says `auto_fork`, else the command is named.

Registering adds keys. A withdrawn experiment's keys, and so what the UI shows of it, stay until somebody asks for their removal;
those of an experiment whose data is on disk stay in any case.
"""

import contextlib
from dataclasses import dataclass, field

import dagster as dg

from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.experiments.writing import fork_experiment, lay_aside, successor_name
from thesis_assets.graph.cells import EXP_NAMES, RUN_NAMES, SCENE_NAMES, Cell
from thesis_assets.graph.history import History
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.states import folder_names
from thesis_assets.layout import check_key

DIMENSIONS = ("exp_name", "scene_name", "run_name")


@dataclass(frozen=True)
class Registration:
    """What registering would do, by partition dimension; `refused` has the reason by experiment."""

    added: dict[str, list[str]]
    withdrawn: dict[str, list[str]]
    cells: dict[str, dict[str, list[str]]]
    """By experiment: its scenes and its runs."""
    refused: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """Globs that match nothing, and data whose experiment file is gone."""
    pools: dict[str, int] = field(default_factory=dict)

    @property
    def n_added(self) -> int:
        return sum(len(keys) for keys in self.added.values())

    @property
    def removable(self) -> dict[str, list[str]]:
        """The withdrawn keys that nothing speaks for. While a file is refused, nobody knows which scenes and runs it has."""
        return self.withdrawn if not self.refused else {"exp_name": self.withdrawn["exp_name"]}


def plan_registration(platform: Platform, instance: dg.DagsterInstance) -> Registration:
    """Compare the experiment files with the registered keys. A bad file is refused alone; the others go on."""
    wanted: dict[str, dict[str, None]] = {name: {} for name in DIMENSIONS}
    cells: dict[str, dict[str, list[str]]] = {}
    refused: dict[str, str] = platform.experiments.misnamed()
    warnings: list[str] = []
    for name in platform.experiments.names():
        try:
            spec = platform.experiments.read(name)
            scenes = platform.scene_names(spec)
            idle = platform.idle_globs(spec)
        except ThesisAssetsError as error:
            refused[name] = str(error)
            continue
        cells[name] = {"scenes": scenes, "runs": list(spec.runs)}
        warnings += [f"{name}: {line}" for line in idle]
        wanted["exp_name"][name] = None
        wanted["scene_name"] |= dict.fromkeys(scenes)
        wanted["run_name"] |= dict.fromkeys(spec.runs)
    registered = {
        definition.name: dict.fromkeys(instance.get_dynamic_partitions(definition.name))
        for definition in (EXP_NAMES, SCENE_NAMES, RUN_NAMES)
        if definition.name is not None
    }
    kept: dict[str, set[str]] = {name: set() for name in DIMENSIONS}
    archived = {*platform.experiments.archive.names()}
    for name in registered["exp_name"]:
        if name in wanted["exp_name"] or name in refused or name in archived or not _is_key(name):
            continue
        tree = platform.difix(Cell(name))
        if not tree.base.is_dir():
            continue
        kept["exp_name"].add(name)
        kept["scene_name"] |= {*folder_names(tree.scene_runs_dir)}
        kept["run_name"] |= {*folder_names(tree.tuning_runs_dir)}
        warnings.append(
            f"{name}: its data is in {tree.base}, its file {platform.experiments.path(name)} is gone: its partitions stay. "
            f"Put the file back, or write one by `thesis-assets experiment new {name}`"
        )
    settings = platform.settings
    return Registration(
        added={name: [key for key in keys if key not in registered[name]] for name, keys in wanted.items()},
        withdrawn={
            name: [key for key in keys if key not in wanted[name] and key not in refused and key not in kept[name]]
            for name, keys in registered.items()
        },
        cells=cells,
        refused=refused,
        warnings=warnings,
        pools={"gpu": settings.gpu_slots, "render": settings.render_slots, "upload": settings.upload_slots},
    )


def _is_key(name: str) -> bool:
    """Whether a registered name may become a folder: in the web UI anybody can add any."""
    try:
        check_key(name, "exp_name")
    except InvalidKey:
        return False
    return True


def register(instance: dg.DagsterInstance, registration: Registration) -> None:
    """Add the new keys, and set the pools' slots on the instance where they are others."""
    for name, keys in registration.added.items():
        if keys:
            instance.add_dynamic_partitions(name, keys)
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        present = {limit.name: limit.limit for limit in storage.get_pool_limits()}
        for pool, slots in registration.pools.items():
            if present.get(pool) != slots:
                storage.set_concurrency_slots(pool, slots)


def remove_withdrawn(instance: dg.DagsterInstance, registration: Registration) -> dict[str, list[str]]:
    """Take the removable keys of withdrawn experiments away. Files and the history in the event log stay.

    Returns:
        What was removed, by dimension.
    """
    for name, keys in registration.removable.items():
        for key in keys:
            instance.delete_dynamic_partition(name, key)
    return {name: keys for name, keys in registration.removable.items() if keys}


def archive(platform: Platform, instance: dg.DagsterInstance, exp_name: str) -> dict[str, list[str]]:
    """Lay an experiment aside: its file moves to the archive, and its keys go that no other experiment has. Its data is not touched.

    Returns:
        The keys that went, by dimension.

    Raises:
        Undeclared: there is no such file.
        ThesisAssetsError: something of it is being made.
    """
    busy = History(instance).makers_of(exp_name)
    if busy:
        raise ThesisAssetsError(
            "something of the experiment is being made",
            found="; ".join(busy[:3]),
            wanted="an experiment at rest",
            remedy="wait until it is made, or end it in the UI; then archive it",
        )
    cells = plan_registration(platform, instance).cells.get(exp_name, {"scenes": [], "runs": []})
    own = {"exp_name": [exp_name], "scene_name": cells["scenes"], "run_name": cells["runs"]}
    lay_aside(platform.experiments, exp_name)
    removable = plan_registration(platform, instance).removable
    gone = {name: [key for key in removable.get(name, []) if key in keys] for name, keys in own.items()}
    for name, keys in gone.items():
        for key in keys:
            instance.delete_dynamic_partition(name, key)
    return gone


@dataclass(frozen=True)
class LateScenes:
    """The scenes that a frozen experiment does not take, and the fork that would."""

    exp_name: str
    scenes: list[str]
    fork: str
    by_itself: bool
    """Its file says `auto_fork: true`."""

    @property
    def command(self) -> str:
        return f"thesis-assets fork --exp {self.exp_name} --as {self.fork}"


def late_scenes(platform: Platform, ready: ReadyScenes) -> list[LateScenes]:
    """Every frozen experiment with scenes that came later and that no other experiment of the same data sections takes.

    Files that cannot be read are left out: registering names them. So are scenes that are not complete yet.
    """
    specs = {spec.exp_name: spec for spec in platform.readable_experiments()}
    found = []
    for name, spec in specs.items():
        try:
            late = platform.late_scenes(spec)
        except ThesisAssetsError:
            continue
        if not late:
            continue
        taken: set[str] = set()
        for other, second in specs.items():
            if other != name and (second.generation, second.split) == (spec.generation, spec.split):
                with contextlib.suppress(ThesisAssetsError):
                    taken.update(platform.scene_names(second))
        waiting = [scene for scene in late if scene not in taken and ready.why_not(spec, scene) is None]
        fork = successor_name(name)
        taken_names = (*platform.experiments.names(), *platform.experiments.archive.names())
        if waiting and fork not in taken_names:
            found.append(LateScenes(name, waiting, fork, spec.generation.auto_fork))
    return found


def fork_for_late_scenes(platform: Platform, ready: ReadyScenes) -> list[LateScenes]:
    """Write the forks of experiments with `auto_fork`; one fork serves all that differ in nothing but their name and runs.

    Raises:
        InvalidExperiment: the file of a fork appeared meanwhile.
    """
    made = []
    while waiting := [late for late in late_scenes(platform, ready) if late.by_itself]:
        fork_experiment(platform.experiments.path(waiting[0].exp_name), waiting[0].fork)
        made.append(waiting[0])
    return made
