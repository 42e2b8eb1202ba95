"""The outcomes of checks as the event log has them: which of them block, and the newest of every check of every partition.

Does not belong here: what each check says and what mends it (`checks`), or making one (`operations/check_outcomes`).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as EVALUATED,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from thesis_assets.graph.checks import CHECKS, remedy_of
from thesis_assets.schemas.checks import CheckRow, Remedy

OFFENDERS = "First offenders"
MEND = "To mend it"
PICTURE = "A look at the first offenders"
"""Entries of a check. Dagster sorts them by their names, so these stand above the counts, whose names are small."""
PAGE = 500


def first_of(offenders: Sequence[str]) -> str:
    """What a description ends with where a check failed: a list of checks shows no more of each."""
    return f"; first: {offenders[0]}" if offenders else ""


def stops(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether what is downstream stands still for the outcome of a check."""
    return bool(evaluation.blocking) and not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR


def evaluation_of(record: AssetCheckExecutionRecord) -> dg.AssetCheckEvaluation | None:
    """None of a check that is planned: `record.evaluation` is the plan then."""
    return record.evaluation if record.status in EVALUATED else None


def failed_blocking_checks(instance: dg.DagsterInstance, assets: Iterable[str], key: str | None) -> list[str]:
    """`asset.check` of the blocking checks that failed when they were evaluated last in one partition."""
    storage, partition = instance.event_log_storage, PartitionKeyFilter(key=key)
    failed = []
    for asset in (asset for asset in assets if asset in CHECKS):
        keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for name in CHECKS[asset]]
        for record in storage.get_latest_asset_check_execution_by_key(keys, partition).values():
            evaluation = evaluation_of(record)
            if evaluation is None:  # planned anew since
                before = storage.get_asset_check_execution_history(
                    record.key, limit=1, status=EVALUATED, partition_filter=partition
                )
                evaluation = before[0].evaluation if before else None
            if evaluation is not None and stops(evaluation):
                failed.append(f"{asset}.{evaluation.check_name}")
    return failed


def check_rows(instance: dg.DagsterInstance, without: Collection[str] = ()) -> list[CheckRow]:
    """Every check's newest outcome a partition, in the order of the graph. `without`: experiments that are left out."""
    return [
        row
        for asset, names in CHECKS.items()
        for name in names
        for row in sorted(_newest(instance, asset, name), key=lambda row: row.cell)
        if row.cell.split("|")[0] not in without
    ]


def _newest(instance: dg.DagsterInstance, asset: str, name: str) -> Iterator[CheckRow]:
    seen: set[str | None] = set()
    for record in _history(instance, dg.AssetCheckKey(dg.AssetKey(asset), name)):
        evaluation = evaluation_of(record)
        partition = record.partition
        # What was planned by a run that ended without it was never evaluated: what stood before stands.
        if partition in seen or (evaluation is None and not _is_at_work(instance, record.run_id)):
            continue
        seen.add(partition)
        when = datetime.fromtimestamp(record.create_timestamp, UTC).isoformat(timespec="seconds")
        if evaluation is None:
            yield CheckRow(asset, name, partition or "all", "running", False, when, "", "", record.run_id)
            continue
        status = "passed" if evaluation.passed else "failed"
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.WARN:
            status = "warning"
        found = evaluation.metadata.get(OFFENDERS)
        offenders = [str(line) for line in found.value] if found is not None else []  # type: ignore[union-attr]
        counted = evaluation.metadata.get("offenders")
        yield CheckRow(
            asset=asset,
            check=name,
            cell=partition or "all",
            status=status,
            blocking=bool(evaluation.blocking),
            when=when,
            message=(evaluation.description or "").removesuffix(first_of(offenders)),
            offenders="\n".join(offenders),
            run_id=record.run_id,
            remedy=Remedy() if evaluation.passed else remedy_of(asset, name, partition),
            n_offenders=int(counted.value) if counted is not None else 0,  # type: ignore[arg-type]
            picture=_picture_address(evaluation),
        )


def _picture_address(evaluation: dg.AssetCheckEvaluation) -> str:
    """Of what `metadata.picture` gave; empty where there is none."""
    shown = evaluation.metadata.get(PICTURE)
    address = str(shown.value).removeprefix("![](").removesuffix(")") if shown is not None else ""
    return address if address.startswith("data:image/") else ""


def _is_at_work(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and not run.is_finished


def _history(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Iterator[AssetCheckExecutionRecord]:
    """All executions of a check, newest first, a page at a time."""
    cursor: int | None = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(key, limit=PAGE, cursor=cursor)
        yield from page
        if len(page) < PAGE:
            return
        cursor = page[-1].id
