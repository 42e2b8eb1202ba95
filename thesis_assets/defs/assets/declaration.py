"""How an asset of the graph is declared: everything but its body comes from the table in `graph`.

The wrapper does what every asset needs and no body should repeat: refuse or skip undeclared cells, note the data version of what
was made, and turn our errors into failures without retry.
"""

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG  # no public name yet
from dagster._core.storage.tags import BACKFILL_ID_TAG
from pydantic import BaseModel

from thesis_assets.defs.io_manager import verify_units
from thesis_assets.defs.metadata import COLUMN_SCHEMA, column_schema
from thesis_assets.defs.scene_files import scene_read
from thesis_assets.defs.told_versions import tags_of_step
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.attempts import attempting
from thesis_assets.graph.cells import PARTITIONS, Cell, CellKind
from thesis_assets.graph.dead_runs import made_by_command_line
from thesis_assets.graph.history import PARTITION
from thesis_assets.graph.nodes import CODE_VERSION, DATA_VERSION, NODES
from thesis_assets.graph.platform import Platform
from thesis_assets.launch.telling import told_to
from thesis_assets.storage import cell_lock, full_disk_explained

IO_MANAGER = "trees"
PLATFORM = "platform"
SECONDS = "seconds"
"""Of the whole step: cells of one single-run step share it."""
STEP = "step run"


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
    one_writer_of: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare the asset `name` of `graph.NODES`. Its body takes `context`, `platform`, a `config` and loaded upstream values.

    Args:
        columns: what one row is, where the asset is a table.
        one_writer_of: what several assets of a run write, by turns: a step that finds another at work on it says who, and ends.
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
            try:
                with (
                    _only_writers(platform, cells, one_writer_of),
                    attempting(platform, name, cells, context.run_id, lambda: ended_by_person(context)),
                    full_disk_explained(platform.settings.data_home),
                    told_to(functools.partial(_say, context, platform)),
                ):
                    value = body(context=context, platform=platform, **inputs)
                    # Tables are written, and then looked at, by the IO manager.
                    made = {} if value is not None else {cell: verify_units(platform, name, cell) for cell in cells}
                _observe(context, platform, name, cells)
            except ThesisAssetsError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            seconds = round(time.perf_counter() - began, 2)
            of_step = {SECONDS: seconds, STEP: dg.MetadataValue.dagster_run(context.run_id)}
            if len(cells) == len(asked) == 1:
                (cell,) = cells
                found = made.get(cell, {})
                context.add_output_metadata(
                    found
                )  # of the output, so that it stands above paths, which are of the asset
                context.add_asset_metadata(of_step, partition_key=cell.key)
                if found:
                    context.set_data_version(dg.AssetKey(name), dg.DataVersion(str(found[DATA_VERSION])))
                yield dg.Output(value, tags={CODE_VERSION_TAG: str(found[CODE_VERSION])} if found else None)
                return
            # One by one: an output of the step would materialize the skipped ones of a range too, and give all one version.
            for cell in cells:
                context.add_asset_metadata({**of_step, **made[cell]}, partition_key=cell.key)
                yield _materialization(context, name, cell, made[cell])

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


def _say(context: dg.AssetExecutionContext, platform: Platform, line: str) -> None:
    """What a step tells itself is no progress, which a later line takes the place of: that a training was moved aside."""
    context.log.info(line)
    platform.echo(f"{context.asset_key.to_user_string()}: {line}")


def ended_by_person(context: dg.AssetExecutionContext) -> bool:
    """Of a step that is told to end: whether a person said so. Web server and daemon end theirs, without a word, when they are
    restarted; a run of the command line is interrupted by whoever sits in front of it, and one that is terminated in the UI is
    `CANCELING` before its process hears of it."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and (made_by_command_line(run) or run.status == dg.DagsterRunStatus.CANCELING)


def log_cells(context: dg.AssetExecutionContext, platform: Platform, name: str, cells: Sequence[Cell]) -> None:
    """Register some cells of a step that will fail for others of its cells."""
    _observe(context, platform, name, cells)
    for cell in cells:
        made = verify_units(platform, name, cell)
        context.add_asset_metadata(made, partition_key=cell.key)
        context.log_event(_materialization(context, name, cell, made))


def _observe(context: dg.AssetExecutionContext, platform: Platform, name: str, cells: Sequence[Cell]) -> None:
    """Tell Dagster what the cells were made from, before it is told of them."""
    for above in NODES[name].observed:
        for cell in cells:
            observation = scene_read(platform, cell)
            if observation is not None:
                context.log_event(observation)
        # What the step saw when it began is older than that.
        context.get_step_execution_context().wipe_input_asset_version_info(dg.AssetKey(above))


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
    tags |= tags_of_step(step, name, str(made[DATA_VERSION]), str(made[CODE_VERSION]))
    metadata = step.get_asset_metadata(key, cell.key)
    return dg.AssetMaterialization(key, partition=cell.key, metadata=metadata, tags=tags)


@contextlib.contextmanager
def _only_writers(platform: Platform, cells: Sequence[Cell], what: str | None) -> Iterator[None]:
    """Hold the lock of each cell's `what`.

    Raises:
        CellLocked: another process holds one.
    """
    with contextlib.ExitStack() as stack:
        for cell in cells if what is not None else ():
            lock = platform.difix(cell).lock(f"{what}-{cell.run_name}")
            stack.enter_context(cell_lock(lock, f"the {what} of {cell}"))
        yield
