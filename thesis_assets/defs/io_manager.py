"""The IO manager of the trees: has written what an asset says should exist, holds it against its record, and loads it again.

Images are described, and written by workers: the one map brings each description to a worker, here or on a cluster, which drains it
through the writer of its room. Tables are written here. What programs of their own wrote is held against its record by the step.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG  # no public name yet
from dagster._core.execution.context.system import StepExecutionContext

from thesis_assets.defs.step_work import Described, jobs_table, observe, of_step, working
from thesis_assets.errors import InvalidFile, ThesisAssetsError, command_for, reason_of
from thesis_assets.graph.attempts import CellsFailed, end_attempts
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import CODE_VERSION, DATA_VERSION, NODES, data_version, footprint, of_all
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.data_versions import code_version_of
from thesis_assets.operations.metadata import Metadata, counts_table

if TYPE_CHECKING:
    from thesis_assets.samples.shards import SampleSet
    from thesis_assets.schemas.samples import Exclusion, SampleRow


@dataclass(frozen=True)
class SplitRows:
    """Both sides of a hold-out, as they are loaded."""

    train: "list[SampleRow]"
    test: "list[SampleRow]"


@dataclass(frozen=True)
class SplitTables:
    """Both sides of a hold-out, with what the statistics need."""

    rows: "list[SampleRow]"
    result: Any
    split: Any
    exclusions: "list[Exclusion]"


@dataclass(frozen=True)
class AdapterTable:
    """The rows of `difix/data.json`."""

    train: "list[SampleRow]"
    test: "list[SampleRow]"
    prompt: str


def verify_units(platform: Platform, asset: str, cell: Cell) -> Metadata:
    """What a cell consists of now, as metadata.

    Raises:
        InvalidFile: a unit of it has no record, or lacks a file of it, or the file has other bytes.
    """
    looks = [(unit, unit.look(platform.contents)) for unit in NODES[asset].units(platform, cell)]
    found = of_all(looks)
    if found.state in ("missing", "damaged"):
        raise InvalidFile(
            "what should have been written is not whole",
            key=f"{asset} of {cell}",
            found=found.in_words,
            remedy=f"the log of what writes it says more; `{command_for(asset, cell.exp_name, cell.run_name)}` makes it again",
        )
    records = [verdict.record for _, verdict in looks if verdict.record is not None]
    n_files, n_bytes = footprint(records)
    versions = {DATA_VERSION: data_version(records), CODE_VERSION: code_version_of(asset, looks)}
    return {**versions, "files": n_files, "bytes": n_bytes}


def _write_sample_set(platform: Platform, cell: Cell, value: "SampleSet") -> Metadata:
    from thesis_assets.samples.shards import write_sample_set

    tree = platform.difix(cell)
    write_sample_set(tree, value)
    return {
        "dagster/row_count": len(value.rows),
        "dropped": len(value.dropped),
        "path": dg.MetadataValue.path(tree.all_samples),
    }


def _write_split(platform: Platform, cell: Cell, value: SplitTables) -> Metadata:
    from thesis_assets.samples.shards import collect_sample_set
    from thesis_assets.splits.manifests import write_split_manifests

    tree = platform.difix(cell)
    spec = platform.spec(cell)
    samples = collect_sample_set(tree, platform.scene_names(spec))
    summary = write_split_manifests(
        tree, value.rows, value.result, value.split, samples.dropped, samples.shards, value.exclusions
    )
    return {
        "train samples": summary.n_train,
        "test samples": summary.n_test,
        **({} if summary.n_excluded is None else {"left out samples": summary.n_excluded}),
        "train groups": counts_table("group", _by_group(value.result.train)),
        "test groups": counts_table("group", _by_group(value.result.test)),
        "dagster/row_count": summary.n_all,
        "path": dg.MetadataValue.path(tree.manifests_dir),
    }


def _by_group(rows: "list[SampleRow]") -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        group = f"{row.dataset}/{row.group_id}"
        counts[group] = counts.get(group, 0) + 1
    return counts


def _write_adapter(platform: Platform, cell: Cell, value: AdapterTable) -> Metadata:
    from thesis_assets.samples.snapshot import mend_freeze
    from thesis_assets.splits.data_json import write_data_json

    tree = platform.difix(cell)
    mend_freeze(tree)
    write_data_json(tree, value.train, value.test, value.prompt)
    n_rows = len(value.train) + len(value.test)
    return {"dagster/row_count": n_rows, "path": dg.MetadataValue.path(tree.data_json)}


def _load_sample_set(platform: Platform, cell: Cell) -> "list[SampleRow]":
    from thesis_assets.samples.sample_rows import read_rows

    return read_rows(platform.difix(cell).all_samples)


def _load_split(platform: Platform, cell: Cell) -> SplitRows:
    from thesis_assets.samples.sample_rows import read_rows

    tree = platform.difix(cell)
    return SplitRows(read_rows(tree.split_train), read_rows(tree.split_test))


WRITERS: dict[str, Callable[[Platform, Cell, Any], Metadata]] = {
    "sample_set": _write_sample_set,
    "split_manifests": _write_split,
    "difix_data": _write_adapter,
}
LOADERS: dict[str, Callable[[Platform, Cell], Any]] = {
    "sample_set": _load_sample_set,
    "split_manifests": _load_split,
}
"""Of tables that an asset below takes in whole; the others read the files of what they are made from."""


class TreeIOManager(dg.IOManager):
    """Has written, and verifies, an asset's files in the trees of both directory documents, and loads them for what is downstream."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Have written what the step's cells should be, and hold what lies there then against its record. Metadata are of a cell each.

        Raises:
            Failure: a cell could not be made, which leaves the others; a file that should be there is not; or the disk is full.
        """
        if obj is None:
            return  # written by a program of its own, and held against its record by the step
        platform, step, asset = self._platform, _step_of(context), context.asset_key.to_user_string()
        cells = [Cell.parse(NODES[asset].kind, key) for key in context.asset_partition_keys]
        if isinstance(obj, Described):
            cells = list(obj.calls)  # of a range those that are declared
        began = time.perf_counter()
        try:
            with working(step, platform, asset, cells):
                if isinstance(obj, Described):
                    calls = [call for of_cell in obj.calls.values() for call in of_cell]
                    answers = platform.launcher.map(
                        obj.write, calls, obj.calling(step, platform, platform.reporter(step))
                    )
                    self._tell_of_cells(step, asset, obj, answers, began)
                else:
                    (cell,) = cells
                    self._tell(step, asset, cell, WRITERS[asset](platform, cell, obj))
            end_attempts(platform, asset, cells)
        except ThesisAssetsError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if len(context.asset_partition_keys) == 1:
            self._tell_versions(context, step, asset, cells[0], obj)

    def _tell_of_cells(
        self, step: StepExecutionContext, asset: str, described: Described, answers: Sequence[Any], began: float
    ) -> None:
        """Of every cell what came of it.

        Raises:
            CellsFailed: some of several failed.
            Exception: the only one did.
        """
        failed: dict[Cell, Exception] = {}
        left = iter(answers)
        seconds = round(time.perf_counter() - began, 2)
        for cell, calls in described.calls.items():
            of_cell = list(itertools.islice(left, len(calls)))
            jobs = {} if self._platform.launcher.name == "local" else jobs_table(step, calls)
            try:
                shown = described.show(cell, of_cell)
                self._tell(step, asset, cell, {**shown, **jobs, **of_step(step, seconds)})
            except Exception as error:
                if len(described.calls) == 1:
                    raise
                failed[cell] = error
        if failed:
            told = {cell.scene_name or cell.run_name: error for cell, error in failed.items()}
            whole = CellsFailed(
                f"{len(failed)} of {len(described.calls)} cells failed; the others are in place",
                found="".join(
                    f"\n  {name}: "
                    + str(error if isinstance(error, ThesisAssetsError) else reason_of(error)).replace("\n", "\n  ")
                    for name, error in told.items()
                ),
                remedy=described.remedy,
            )
            whole.of_cells = failed
            raise whole

    def _tell(self, step: StepExecutionContext, asset: str, cell: Cell, shown: Metadata) -> None:
        """Hold a cell against its record, and note for its event what is shown of it: paths stand last."""
        found = verify_units(self._platform, asset, cell)
        paths = {name: value for name, value in shown.items() if isinstance(value, dg.PathMetadataValue)}
        rest = {name: value for name, value in shown.items() if name not in paths}
        step.add_asset_metadata({**rest, **found, **paths}, dg.AssetKey(asset), cell.key)

    def _tell_versions(
        self, context: dg.OutputContext, step: StepExecutionContext, asset: str, cell: Cell, obj: Any
    ) -> None:
        """Of a step of one cell, whose event Dagster makes: the data version, the code version, and what it was made from."""
        key = dg.AssetKey(asset)
        found = step.get_asset_metadata(key, cell.key) or {}
        observe(context.log_event, step, self._platform, asset, [cell])
        step.set_data_version(key, dg.DataVersion(str(found[DATA_VERSION])))
        if isinstance(obj, Described):
            obj.tags[CODE_VERSION_TAG] = str(found[CODE_VERSION])

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the upstream value of the one cell that the step works on."""
        asset = context.asset_key.to_user_string()
        key = context.asset_partition_key if context.has_asset_partitions else None
        return LOADERS[asset](self._platform, Cell.parse(NODES[asset].kind, key))


def _step_of(context: dg.OutputContext) -> StepExecutionContext:
    step = context.step_context
    assert step is not None, "written in a step"
    return step
