"""What Dagster is told of a cell, so that its own marks are right: data version, code version, and what it was made after.

Does not belong here: whether a cell is as wanted (`states`). Dagster compares these alone, and sees no file.
Concept: https://docs.dagster.io/guides/build/assets/asset-versioning-and-caching
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import (  # no public names yet
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.execution.plan.execute_step import _build_data_version_tags, _get_input_provenance_data

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import DATA_VERSION, NODES, data_version
from thesis_assets.graph.platform import Platform
from thesis_assets.provenance import CODE_VERSIONS, Unit, Verdict


def code_version_of(asset: str, looks: Sequence[tuple[Unit, Verdict]]) -> str:
    """By which code version a cell was made: the asset's own where all of it is by today's, else another one that says which."""
    older = {
        verdict.record.code_version
        for unit, verdict in looks
        if verdict.record is not None and verdict.record.code_version != unit.wanted.code_version
    }
    return f"older-{'-'.join(sorted(older))}" if older else CODE_VERSIONS[asset]


def tags_of_step(step: StepExecutionContext, asset: str, data_version: str, code_version: str) -> Mapping[str, str]:
    """As Dagster tags the output of a step, for a cell that is reported by itself."""
    inputs = _get_input_provenance_data(dg.AssetKey(asset), step)
    return _build_data_version_tags(dg.DataVersion(data_version), code_version, inputs, True)


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
