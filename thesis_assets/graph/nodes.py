"""The graph as a table: each asset's cells, what is upstream, and the units that a cell consists of.

Belongs here: the facts that assets, the planner of `thesis-assets run` and the status table share, and asking `provenance`
whether a cell is as wanted. Does not belong here: any asset's body, or what a unit is made from (its own room).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import dagster as dg

from thesis_assets.errors import first_names
from thesis_assets.graph.cells import Cell, CellKind
from thesis_assets.graph.compare_units import CompareUnits
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.scene_facts import damaged_scenes
from thesis_assets.layout import TASKS
from thesis_assets.provenance import CODE_VERSIONS, MadeFrom, Place, Unit, Verdict, Wanted, read_record, recorded
from thesis_assets.provenance.contents import stat_of
from thesis_assets.provenance.verdict import State
from thesis_assets.storage import sha256_value

DATA_VERSION = "data version"
CODE_VERSION = "code version"
SECONDS = "seconds"
STEP = "step run"
"""Entries of a materialization: the last two are of the whole step, which cells of a single-run step share."""
SCENE_FILES = "scene_files"
"""The scenes on disk as Dagster sees them: observed, never made."""
EPOCHS = "evaluation"
"""What the tasks write: one that is measured anew takes its epoch out of the manifest first."""
BADNESS: tuple[State, ...] = ("damaged", "missing", "stale")


@dataclass(frozen=True)
class Node:
    """One asset of the graph.

    Args:
        units: the outputs of a cell that are made, looked at and mended each by itself; of a cell without any, such as the catalog
            of scenes or a task that is not enabled, its event in the history is all there is.
        observed: what Dagster alone sees above it, for its marks: no cells that anybody makes.
        one_writer_of: what several assets of a run write, by turns.
    """

    name: str
    group: str
    kind: CellKind
    upstream: tuple[str, ...]
    units: Callable[[Platform, Cell], Sequence[Unit]]
    observed: tuple[str, ...] = ()
    one_writer_of: str | None = None


def _nothing(platform: Platform, cell: Cell) -> list[Unit]:
    del platform, cell
    return []


def _scene_samples(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.samples.shards import shard_unit
    from thesis_assets.scenes.matching import group_id

    spec = platform.spec(cell)
    group = group_id(cell.scene_name, spec.split.group_rules)
    return [shard_unit(platform.difix(cell), platform.roots, cell.scene_name, spec.generation, group)]


def _sample_set(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.samples.shards import sample_set_unit

    return [sample_set_unit(platform.difix(cell), platform.scene_names(platform.spec(cell)))]


def _split_manifests(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.splits.manifests import split_unit

    return [split_unit(platform.difix(cell), platform.spec(cell).split, platform.exclusions(cell))]


def _difix_data(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.splits.data_json import data_json_unit

    export = platform.spec(cell).generation.export
    return [data_json_unit(platform.difix(cell), export.prompt, given="prompt" in export.model_fields_set)]


def _tuned_checkpoint(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.tuning.run_record import checkpoint_unit

    return [checkpoint_unit(platform.difix(cell), cell.run_name, platform.run_spec(cell))]


def _selected_checkpoint(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.tuning.selection import selection_unit

    groups = frozenset(platform.evaluation_groups(platform.spec(cell)))
    weights = platform.settings.lpips_weights
    return [selection_unit(platform.difix(cell), cell.run_name, platform.run_spec(cell), groups, weights)]


def _evaluated(asset: str) -> Callable[[Platform, Cell], list[Unit]]:
    def units(platform: Platform, cell: Cell) -> list[Unit]:
        from thesis_assets.evaluation.scene_steps import units_of

        return [unit for scene in platform.evaluation_cells(cell, and_gone=True) for unit in units_of(asset, scene)]

    return units


def _recorded(asset: str) -> Callable[[Platform, Cell], list[Unit]]:
    def units(platform: Platform, cell: Cell) -> list[Unit]:
        from thesis_assets.recordings.exports import recording_units

        epochs = list(platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell)))
        return recording_units(asset, platform.evaluation_trees(cell), platform.difix(cell), cell.run_name, epochs)

    return units


def _published_recordings(platform: Platform, cell: Cell) -> list[Unit]:
    from thesis_assets.publishing.publication import publication_unit

    repo_id = platform.settings.hf_rerun_repo_id
    if repo_id is None:
        return []
    return [publication_unit(platform.evaluation_trees(cell), platform.difix(cell), cell.run_name, repo_id)]


LEFT_EMPTY = "damaged, and left empty"
WHOLE_AGAIN = "whole again"
"""In a leaderboard's record in place of the data version of an evaluated scene."""


def _leaderboard(platform: Platform, cell: Cell) -> list[Unit]:
    del cell
    emptied = names_left_empty(platform)
    damaged = damaged_scenes(platform, emptied) if emptied else set()
    return [leaderboard_unit(platform, damaged, emptied), *CompareUnits(platform).units()]


def names_left_empty(platform: Platform) -> set[str]:
    """`<exp>/<run>/<scene>` of what the leaderboard's files have an empty cell of, since its numbers were damaged then."""
    reports = platform.settings.reports
    record = recorded(Place(reports.base, reports.leaderboard_made_from))
    return {name for name, version in record.inputs.items() if version == LEFT_EMPTY} if record is not None else set()


def leaderboard_unit(platform: Platform, damaged: Collection[str], emptied: Collection[str] = ()) -> Unit:
    """The table of all evaluated scenes, `<exp>/<run>/<scene>`, and its plot.

    Args:
        damaged: those whose cells are left empty.
        emptied: those whose cells its files leave empty.
    """
    reports = platform.settings.reports
    made = {
        f"{run.exp_name}/{run.run_name}/{name}": record.data_version
        for run in platform.run_cells()
        for name, tree in platform.evaluated_scenes(run).items()
        if (record := read_record(Place(tree.base, tree.manifest_made_from))) is not None
    }
    made = {**dict.fromkeys(emptied, WHOLE_AGAIN), **made, **dict.fromkeys(damaged, LEFT_EMPTY)}
    place = Place(reports.base, reports.leaderboard_made_from)
    controls = {"/".join(run): control for run, (_, control) in platform.controls().items()}
    options = {"controls": controls} if controls else {}
    return Unit("leaderboard", place, Wanted("leaderboard", CODE_VERSIONS["leaderboard"], options, made=made))


PREDICTED_FROM: dict[str, set[str]] = {
    "refine": {"tuned_checkpoint"},
    "command": {"selected_checkpoint"},
    "existing": set(),
}
"""Which checkpoints of the run the predictions are made from, by `evaluation.predictions.source`."""


NODES: dict[str, Node] = {
    node.name: node
    for node in (
        Node("scene_catalog", "scenes", "none", (), _nothing),
        Node("scene_samples", "difix_data", "exp_by_scene", (), _scene_samples, observed=(SCENE_FILES,)),
        Node("sample_set", "difix_data", "exp", ("scene_samples",), _sample_set),
        Node("split_manifests", "difix_data", "exp", ("sample_set",), _split_manifests),
        Node("difix_data", "difix_data", "exp", ("split_manifests",), _difix_data),
        Node("tuned_checkpoint", "tuning", "exp_by_run", ("difix_data",), _tuned_checkpoint),
        Node("selected_checkpoint", "tuning", "exp_by_run", ("tuned_checkpoint",), _selected_checkpoint),
        Node("input_data", "evaluation", "exp_by_run", ("difix_data",), _evaluated("input_data")),
        # Which of the checkpoints counts for the predictions says `PREDICTED_FROM`; the order holds for both.
        Node(
            "predictions",
            "evaluation",
            "exp_by_run",
            ("tuned_checkpoint", "selected_checkpoint", "input_data"),
            _evaluated("predictions"),
            one_writer_of=EPOCHS,
        ),
        *(
            Node(task, "evaluation", "exp_by_run", ("predictions",), _evaluated(task), one_writer_of=EPOCHS)
            for task in TASKS
        ),
        Node(
            "evaluation_manifest",
            "evaluation",
            "exp_by_run",
            TASKS,
            _evaluated("evaluation_manifest"),
            one_writer_of=EPOCHS,
        ),
        Node("triplet_recording", "recordings", "exp_by_run", ("tuned_checkpoint",), _recorded("triplet_recording")),
        Node("input_data_recording", "recordings", "exp_by_run", ("input_data",), _recorded("input_data_recording")),
        # After the input data's recording: the checks here hold all files of a tree's rerun/ against it.
        Node(
            "evaluation_recordings",
            "recordings",
            "exp_by_run",
            ("evaluation_manifest", "input_data_recording"),
            _recorded("evaluation_recordings"),
        ),
        Node(
            "published_recordings",
            "recordings",
            "exp_by_run",
            ("triplet_recording", "input_data_recording", "evaluation_recordings"),
            _published_recordings,
        ),
        Node("leaderboard", "reports", "none", ("evaluation_manifest",), _leaderboard),
        Node("check_report", "reports", "none", (), _nothing),
    )
}


@dataclass(frozen=True)
class Level:
    """Assets with the same partitions that run together, in order: levels have different partitions and cannot share a run."""

    job: str
    kind: CellKind
    assets: tuple[str, ...]
    title: str


LEVELS = (
    Level("observe_scenes", "none", ("scene_catalog",), "the scenes on disk"),
    Level("export_scenes", "exp_by_scene", ("scene_samples",), "triplets, a scene each"),
    Level("prepare_data", "exp", ("sample_set", "split_manifests", "difix_data"), "manifests, hold-out, data.json"),
    Level("tune", "exp_by_run", ("tuned_checkpoint", "selected_checkpoint"), "fine-tuning and selection"),
    Level(
        "evaluate",
        "exp_by_run",
        ("input_data", "predictions", "nvs", "pose_smplx", "pose_smpl", "evaluation_manifest"),
        "evaluation at every epoch",
    ),
    Level("record", "exp_by_run", ("triplet_recording", "input_data_recording", "evaluation_recordings"), "recordings"),
    Level("report", "none", ("leaderboard", "check_report"), "leaderboard and check page"),
    Level("publish", "exp_by_run", ("published_recordings",), "sharing"),
)

GPU_ASSETS = frozenset(
    {"scene_samples", "tuned_checkpoint", "selected_checkpoint", "predictions", "nvs", "triplet_recording"}
)
"""Assets that use the GPU of the setting `THESIS_DEVICE`, where there is one."""


def upstream_cells(platform: Platform, node: Node, cell: Cell) -> list[tuple[str, Cell]]:
    """The declared (asset, cell)s that one cell is made from."""
    pairs: list[tuple[str, Cell]] = []
    counted = node.upstream
    if node.name == "predictions":
        unread = {"tuned_checkpoint", "selected_checkpoint"} - PREDICTED_FROM[
            platform.spec(cell).evaluation.predictions.source
        ]
        counted = tuple(name for name in node.upstream if name not in unread)
    for name in counted:
        kind = NODES[name].kind
        if kind == "exp_by_scene":
            scenes = platform.scene_names(platform.spec(cell))
            pairs += [(name, Cell(cell.exp_name, scene_name=scene)) for scene in scenes]
        elif kind == "exp":
            pairs.append((name, Cell(cell.exp_name)))
        elif node.kind == "none":
            pairs += [(name, each) for each in platform.run_cells()]
        else:
            pairs.append((name, cell))
    return pairs


def commanded(platform: Platform, asset: str, cell: Cell) -> list[Unit]:
    """What commands of the user's wrote that an asset is taken from: whole where it is, it is taken again; lost, the command runs
    again by force alone."""
    if asset != "predictions" or platform.spec(cell).evaluation.predictions.source != "command":
        return []
    from thesis_assets.evaluation.pipeline_command import pipeline_unit

    return [pipeline_unit(scene) for scene in platform.evaluation_cells(cell, and_gone=True)]


def latest_metadata(instance: dg.DagsterInstance, asset: str, cell: Cell) -> dict[str, object] | None:
    """The metadata of a cell's newest materialization, as plain values; None where there is none."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=[cell.key] if cell.key is not None else None
        ),
        limit=1,
    ).records
    if not records or records[0].asset_materialization is None:
        return None
    return {name: value.value for name, value in records[0].asset_materialization.metadata.items()}


def look_at(
    platform: Platform, asset: str, cell: Cell, noted: Callable[[MadeFrom], Iterable[str]] = lambda record: ()
) -> Verdict:
    """What a look finds of a cell: the worst of its units, with the reasons and notes of all.

    Args:
        noted: what else is to be noted of what is made, by its record.
    """
    found = []
    for unit in NODES[asset].units(platform, cell):
        verdict = unit.look(platform.contents)
        if verdict.is_made and verdict.record is not None and (more := tuple(noted(verdict.record))):
            verdict = replace(verdict, notes=(*verdict.notes, *more))
        found.append((unit, verdict))
    return of_all(found)


def of_all(found: Sequence[tuple[Unit, Verdict]]) -> Verdict:
    """The verdicts on several units as one; what it says of files names those of all."""
    if len(found) == 1:
        return found[0][1]
    states = {verdict.state for _, verdict in found}
    worst: State = next((state for state in BADNESS if state in states), "made")

    def said(part: Callable[[Verdict], Sequence[str]]) -> tuple[str, ...]:
        """Each line once, with the units that it is said of."""
        units: dict[str, list[str]] = {}
        for unit, verdict in found:
            for line in part(verdict):
                units.setdefault(line, []).append(unit.name)
        return tuple(f"{first_names(names, 2)}: {line}" for line, names in units.items())

    return Verdict(
        worst,
        said(lambda verdict: verdict.reasons),
        said(lambda verdict: verdict.notes),
        missing=tuple(name for _, verdict in found for name in verdict.missing),
        damaged=tuple(name for _, verdict in found for name in verdict.damaged),
        only_lost_files=worst != "made" and all(verdict.is_made or verdict.only_lost_files for _, verdict in found),
    )


def records_of(platform: Platform, asset: str, cell: Cell) -> list[MadeFrom]:
    """The records of what a cell has."""
    found = (read_record(unit.place) for unit in NODES[asset].units(platform, cell))
    return [record for record in found if record is not None]


def data_version(records: Sequence[MadeFrom]) -> str:
    """Of a cell: of what its units' records say."""
    return sha256_value([record.data_version for record in records])


def footprint(records: Sequence[MadeFrom]) -> tuple[int, int]:
    """Number of files and their bytes, by a cell's records. A hard link counts with its full size, as a listing shows it."""
    sizes = [size for record in records for size, _, _ in record.outputs.values()]
    return len(sizes), sum(sizes)


def wanted_digest(platform: Platform, asset: str, cell: Cell) -> str:
    """Equal while a cell would be made from the same things: known before the work, and without reading an input.

    It tells one attempt at the work from another (a job on a cluster, a run that was asked for), never whether a cell is made.
    """
    return sha256_value([_asked(unit) for unit in NODES[asset].units(platform, cell)])


def _asked(unit: Unit) -> list[object]:
    wanted = unit.wanted
    files = [(name, stat_of(path)) for name, path in wanted.files.items()]
    return [unit.name, wanted.code_version, wanted.options, wanted.tools, wanted.made, files]
