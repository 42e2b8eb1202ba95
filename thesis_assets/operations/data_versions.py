"""What Dagster is told of cells and scenes, so that its own marks are right: data versions, code versions, and what was made after what.

Dagster compares these alone, and sees no file. A scene is observed from its first export on: before, nothing is made from it.
Does not belong here: whether a cell is as wanted (`graph.states`).
Concept: https://docs.dagster.io/guides/build/assets/asset-versioning-and-caching
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import orjson
from dagster._core.definitions.data_version import (  # no public names yet
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,  # no public name yet
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import SCENE_NAMES, Cell
from thesis_assets.graph.nodes import DATA_VERSION, NODES, SCENE_FILES, data_version
from thesis_assets.graph.platform import Platform
from thesis_assets.provenance import CODE_VERSIONS, Contents, Unit, Verdict, known_inputs


def code_version_of(asset: str, looks: Sequence[tuple[Unit, Verdict]]) -> str:
    """By which code version a cell was made: the asset's own where all of it is by today's, else another one that says which."""
    older = {
        verdict.record.code_version
        for unit, verdict in looks
        if verdict.record is not None and verdict.record.code_version != unit.wanted.code_version
    }
    return f"older-{'-'.join(sorted(older))}" if older else CODE_VERSIONS[asset]


def made_outside(
    platform: Platform, instance: dg.DagsterInstance, asset: str, cell: Cell, metadata: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """A cell that no step of the asset made, by its records: made after what there is of its inputs now."""
    looks = [(unit, unit.look(platform.contents)) for unit in NODES[asset].units(platform, cell)]
    version = data_version([verdict.record for _, verdict in looks if verdict.record is not None])
    tags = {
        DATA_VERSION_TAG: version,
        CODE_VERSION_TAG: code_version_of(asset, looks),
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    for above in (*NODES[asset].observed, *NODES[asset].upstream):
        key = dg.AssetKey(above)
        newest = instance.get_latest_data_version_record(key)
        its_version = extract_data_version_from_entry(newest.event_log_entry) if newest is not None else None
        tags[get_input_data_version_tag(key)] = (its_version or DEFAULT_DATA_VERSION).value
        tags[get_input_event_pointer_tag(key)] = NULL_EVENT_POINTER if newest is None else str(newest.storage_id)
    return dg.AssetMaterialization(asset, partition=cell.key, tags=tags, metadata={DATA_VERSION: version, **metadata})


def scene_read(platform: Platform, cell: Cell) -> dg.AssetObservation | None:
    """The scene of a shard as its export read it; None where its record does not say. What changed since is found by the next
    look at all scenes."""
    from thesis_assets.scenes.listing import scene_files
    from thesis_assets.scenes.versions import version_read

    read = _known(platform, [cell], contents := Contents())
    files = scene_files(platform.roots.tree(cell.scene_name), platform.roots, None)
    return _observation(platform, cell.scene_name, version_read(files, read, contents), len(files)) if read else None


def moved_scenes(
    platform: Platform, instance: dg.DagsterInstance, report: Callable[[str], None]
) -> Iterator[dg.AssetObservation]:
    """The exported scenes that hold other bytes than Dagster was told last: sizes and times first, bytes where these differ."""
    from thesis_assets.scenes.listing import scene_files
    from thesis_assets.scenes.versions import files_stamp, scene_version

    told = _told(instance)
    noted, stamps = _read_stamps(platform), {}
    registered = set(instance.get_dynamic_partitions(str(SCENE_NAMES.name)))
    for scene_name, cells in sorted(_exported(instance).items()):
        if scene_name not in registered:
            continue
        try:
            files = scene_files(platform.roots.tree(scene_name), platform.roots, None)
            stamp = files_stamp(files)
            if noted.get(scene_name) == [stamp, told.get(scene_name)]:
                stamps[scene_name] = noted[scene_name]
                continue
            known = _known(platform, cells, contents := Contents())
            version = scene_version(files, known, contents) if known else None
        except (ThesisAssetsError, OSError) as error:
            report(f"{scene_name} is not observed: {error}")
            continue
        if version is not None:
            stamps[scene_name] = [stamp, version]
            if version != told.get(scene_name):
                yield _observation(platform, scene_name, version, len(files))
    # A cache where one may not write: the scenes are looked at again, which is all.
    with contextlib.suppress(OSError):
        storage.write_json(platform.settings.scene_stamps, stamps)


def _known(platform: Platform, cells: Sequence[Cell], contents: Contents) -> dict[str, str]:
    """What the records of a scene's shards say of its files, by name; `contents` then knows those that have not changed since."""
    known: dict[str, str] = {}
    for cell in cells:
        if platform.why_undeclared(cell) is None:
            (unit,) = NODES["scene_samples"].units(platform, cell)
            known |= known_inputs(unit, contents)
    return known


def _observation(platform: Platform, scene_name: str, version: str, n_files: int) -> dg.AssetObservation:
    folder = dg.MetadataValue.path(platform.roots.tree(scene_name).ground_truth.base)
    metadata: dict[str, Any] = {"files": n_files, "path": folder}
    return dg.AssetObservation(SCENE_FILES, partition=scene_name, tags={DATA_VERSION_TAG: version}, metadata=metadata)


def _exported(instance: dg.DagsterInstance) -> dict[str, list[Cell]]:
    """By scene the shards that were ever made of it."""
    found: dict[str, list[Cell]] = {}
    for key in sorted(instance.get_materialized_partitions(dg.AssetKey("scene_samples"))):
        cell = Cell.parse("exp_by_scene", key)
        found.setdefault(cell.scene_name, []).append(cell)
    return found


def _told(instance: dg.DagsterInstance) -> dict[str, str]:
    """By scene the version that was observed last, in one query."""
    found = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(SCENE_FILES), dg.DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION_TAG]
    )
    return {scene_name: tags[DATA_VERSION_TAG] for scene_name, tags in found.items()}


def _read_stamps(platform: Platform) -> Mapping[str, list[str]]:
    try:
        found = orjson.loads(platform.settings.scene_stamps.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
