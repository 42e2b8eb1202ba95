"""What stood last of every check, also while its next evaluation is planned, and where that never came."""

from collections.abc import Iterator

import dagster as dg
import pytest

from thesis_assets.graph.check_history import check_rows, failed_blocking_checks
from thesis_assets.operations.metadata import check_result
from thesis_assets.schemas.checks import MAX_OFFENDERS, CheckOutcome, CheckRow

ASSET, CHECK, KEY = "sample_set", "every_sample_complete", "v1"


class Rounds:
    """An asset with a check of the platform's names. Each round makes it once; what is seen of the check meanwhile is kept."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.seen: list[CheckRow] = []
        self.blocked: list[str] = []

    def make(self, *, passes: bool, ends_before_the_check: bool = False) -> list[CheckRow]:
        @dg.asset(name=ASSET, partitions_def=dg.StaticPartitionsDefinition([KEY]))
        def made(context: dg.AssetExecutionContext) -> None:
            self.seen = check_rows(context.instance)
            self.blocked = failed_blocking_checks(context.instance, [ASSET], KEY)
            if ends_before_the_check:
                raise dg.Failure("ended")

        @dg.asset_check(asset=made, name=CHECK, blocking=True, partitions_def=dg.StaticPartitionsDefinition([KEY]))
        def checked() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=passes)

        dg.materialize([made, checked], partition_key=KEY, instance=self.instance, raise_on_error=False)
        return check_rows(self.instance)


@pytest.fixture
def rounds() -> Iterator[Rounds]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Rounds(instance)


def statuses(rows: list[CheckRow]) -> list[tuple[str, str, str]]:
    return [(row.check, row.cell, row.status) for row in rows]


def test_a_check_is_running_while_its_run_is_at_work(rounds: Rounds) -> None:
    after = rounds.make(passes=True)
    assert statuses(rounds.seen) == [(CHECK, KEY, "running")]
    assert statuses(after) == [(CHECK, KEY, "passed")]


def test_a_run_that_ended_before_its_check_leaves_what_stood_before(rounds: Rounds) -> None:
    rounds.make(passes=False)
    after = rounds.make(passes=True, ends_before_the_check=True)
    assert statuses(rounds.seen) == [(CHECK, KEY, "running")]
    assert statuses(after) == [(CHECK, KEY, "failed")]
    assert rounds.make(passes=True)[0].status == "passed"


def test_a_failed_check_blocks_until_it_was_evaluated_again(rounds: Rounds) -> None:
    rounds.make(passes=False)
    rounds.make(passes=True, ends_before_the_check=True)
    assert rounds.blocked == [f"{ASSET}.{CHECK}"]
    assert failed_blocking_checks(rounds.instance, [ASSET], KEY) == [f"{ASSET}.{CHECK}"]
    rounds.make(passes=True)
    assert failed_blocking_checks(rounds.instance, [ASSET], KEY) == []


def test_a_row_knows_how_many_offenders_there_are_beside_the_first() -> None:
    @dg.asset(name=ASSET)
    def made() -> None: ...

    @dg.asset_check(asset=made, name=CHECK)
    def checked() -> dg.AssetCheckResult:
        return check_result(ASSET, CHECK, CheckOutcome.of([f"sample {n}" for n in range(57)], message="not complete"))

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([made, checked], instance=instance, raise_on_error=False)
        (row,) = check_rows(instance)
    assert (len(row.offenders.splitlines()), row.n_offenders) == (MAX_OFFENDERS, 57)
