"""How an asset of the graph is declared: everything but its body comes from the table in `graph`.

The wrapper does what every asset needs and no body should repeat: refuse or skip undeclared cells, note the data version of what
was made, and turn our errors into failures without retry.
"""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import (  # no public names yet
    CODE_VERSION_TAG,  # no public name yet
)
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.execution.plan.execute_step import _build_data_version_tags, _get_input_provenance_data
from dagster._core.execution.plan.outputs import StepOutputHandle
from dagster._core.storage.tags import BACKFILL_ID_TAG
from pydantic import BaseModel

from thesis_assets.defs.io_manager import verify_units
from thesis_assets.defs.resources import IO_MANAGER
from thesis_assets.defs.step_work import Described, observe, of_step, working
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.attempts import begin_attempts, end_attempts
from thesis_assets.graph.cells import PARTITIONS, Cell, CellKind
from thesis_assets.graph.history import PARTITION
from thesis_assets.graph.nodes import CODE_VERSION, DATA_VERSION, NODES
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.metadata import COLUMN_SCHEMA, column_schema


def cells_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, kind: CellKind) -> list[Cell]:
    """The cells that a step was started for: several only under a single-run backfill."""
    if kind == "none":
        return [Cell()]
    return [Cell.parse(kind, key) for key in context.partition_keys]


def declared_cells(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, platform: Platform, kind: CellKind
) -> list[Cell]:
    """Those that an experiment file declares. A backfill, or a range, over a product of names holds others too: they are skipped.

    Raises:
        dagster.Failure: nobody asked for more than cells that are not declared.
    """
    cells = cells_of(context, kind)
    declared = [cell for cell in cells if platform.why_undeclared(cell) is None]
    if not declared and BACKFILL_ID_TAG not in context.run.tags:
        platform.refuse_undeclared(cells)
    return declared


def graph_asset(
    name: str,
    *,
    description: str,
    kinds: set[str],
    columns: type[BaseModel] | None = None,
    pool: str | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare the asset `name` of `graph.NODES`. Its body takes `context`, `platform`, a `config` and loaded upstream values.

    Args:
        columns: what one row is, where the asset is a table.
    """
    node = NODES[name]

    def declare(body: Callable[..., Any]) -> dg.AssetsDefinition:
        loaded = set(inspect.signature(body).parameters) - {"context", "platform", "config"}

        @functools.wraps(body)
        def step(context: dg.AssetExecutionContext, platform: Platform, **inputs: Any) -> Iterator[Any]:
            cells, asked = declared_cells(context, platform, node.kind), cells_of(context, node.kind)
            for cell in (cell for cell in asked if cell not in cells):
                context.log.info(f"{cell} is skipped: {platform.why_undeclared(cell)}")
            if not cells:
                return
            began = time.perf_counter()
            of = context.get_step_execution_context()
            try:
                with working(of, platform, name, cells):
                    begin_attempts(platform, name, cells, context.run_id)  # not where another process is at work on one
                    value = body(context=context, platform=platform, **inputs)
                    made = {cell: verify_units(platform, name, cell) for cell in cells} if value is None else {}
                    observe(context.log_event, of, platform, name, list(made))
                end_attempts(platform, name, list(made))
            except ThesisAssetsError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            if isinstance(value, Described) and len(asked) > 1:
                # As an output of the step Dagster would hand it over itself, and materialize the cells that are skipped too, all
                # with one version.
                failure: dg.Failure | None = None
                try:
                    handle = StepOutputHandle(of.step.key, "result")
                    of.get_io_manager(handle).handle_output(of.get_output_context(handle), value)
                except dg.Failure as error:
                    failure = error
                yield from _made(context, of, platform, name, cells)
                if failure is not None:
                    raise failure
                return
            (cell,) = cells
            if not isinstance(value, Described):
                context.add_asset_metadata(of_step(of, round(time.perf_counter() - began, 2)), partition_key=cell.key)
            if value is not None:  # written, and then looked at, by the IO manager
                yield dg.Output(value, tags=value.tags if isinstance(value, Described) else None)
                return
            # Of the output, so that it stands above paths, which are of the asset.
            context.add_output_metadata(made[cell])
            context.set_data_version(dg.AssetKey(name), dg.DataVersion(str(made[cell][DATA_VERSION])))
            yield dg.Output(None, tags={CODE_VERSION_TAG: str(made[cell][CODE_VERSION])})

        return dg.asset(
            name=name,
            group_name=node.group,
            partitions_def=PARTITIONS[node.kind],
            deps=[*node.observed, *(upstream for upstream in node.upstream if upstream not in loaded)],
            io_manager_key=IO_MANAGER,
            description=description,
            kinds=kinds,
            metadata={COLUMN_SCHEMA: column_schema(columns)} if columns is not None else None,
            pool=pool,
            backfill_policy=backfill_policy,
            output_required=False,  # of a cell that is skipped there is none
        )(step)

    return declare


def _made(
    context: dg.AssetExecutionContext, step: StepExecutionContext, platform: Platform, name: str, cells: Sequence[Cell]
) -> Iterator[dg.AssetMaterialization]:
    """Report those cells of a range that the IO manager has told of, also where others failed."""
    for cell in cells:
        told = step.get_asset_metadata(dg.AssetKey(name), cell.key) or {}
        if DATA_VERSION in told:
            observe(context.log_event, step, platform, name, [cell])
            yield _materialization(context, name, cell, told)


def _materialization(
    context: dg.AssetExecutionContext, name: str, cell: Cell, made: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """A cell of several, with versions of its own."""
    key, definition = dg.AssetKey(name), PARTITIONS[NODES[name].kind]
    assert definition is not None, "only a range of partitions has several cells"
    step = context.get_step_execution_context()
    # The key itself has a field of its own, and may hold a character that no tag may.
    tags = definition.get_tags_for_partition_key(cell.key or "")
    tags = {tag: value for tag, value in tags.items() if tag != PARTITION}
    tags |= _tags_of_step(step, name, str(made[DATA_VERSION]), str(made[CODE_VERSION]))
    metadata = step.get_asset_metadata(key, cell.key)
    return dg.AssetMaterialization(key, partition=cell.key, metadata=metadata, tags=tags)


def _tags_of_step(step: StepExecutionContext, asset: str, data_version: str, code_version: str) -> Mapping[str, str]:
    """As Dagster tags the output of a step, for a cell that is reported by itself."""
    inputs = _get_input_provenance_data(dg.AssetKey(asset), step)
    return _build_data_version_tags(dg.DataVersion(data_version), code_version, inputs, True)
