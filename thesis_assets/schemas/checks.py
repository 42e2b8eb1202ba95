"""The outcome of a check: passed or not, how much was looked at, the first offenders; how it stood last, and what mends it."""

from dataclasses import dataclass

from thesis_assets.schemas.base import FileModel

MAX_OFFENDERS = 20


class CheckOutcome(FileModel):
    """What a check found. Counts and offenders stand in it on pass as on fail; `picture`: a JPEG of the first offenders.

    `warns`: not passed, and nothing stands still for it, also where the check blocks for other offenders.
    """

    passed: bool
    warns: bool = False
    message: str
    counts: dict[str, int | float] = {}
    offenders: list[str] = []
    picture: bytes | None = None

    @classmethod
    def of(
        cls, offenders: list[str], *, message: str, counts: dict[str, int | float] | None = None, warns: bool = False
    ) -> "CheckOutcome":
        """Passed where there is no offender; keeps the first `MAX_OFFENDERS` and the number of all."""
        return cls(
            passed=not offenders,
            message=message,
            counts={**(counts or {}), "offenders": len(offenders)},
            offenders=offenders[:MAX_OFFENDERS],
            warns=warns and bool(offenders),
        )

    @classmethod
    def of_nothing(cls, what: str) -> "CheckOutcome":
        """Failed, as there was nothing to look at: an empty set would pass every check."""
        return cls.of([f"{what} is empty"], message=f"there is nothing to check: {what} is empty")


@dataclass(frozen=True)
class Remedy:
    """What mends a failed check: what only a person can do first, then commands in their order."""

    first: str = ""
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        commands = ", then ".join(f"`{command}`" for command in self.commands)
        return f"{self.first}; then {commands}" if self.first else commands


@dataclass(frozen=True)
class CheckRow:
    """One check of one partition, as it stood last.

    Attributes:
        status: `passed`, `warning`, `failed` or `running`.
        offenders: the first of them, a line each.
        remedy: what mends it, where it failed or warns.
        n_offenders: of all; 0: the check says no more than the lines.
        picture: of the first offenders, as a data address; empty: the check has none.
    """

    asset: str
    check: str
    cell: str
    status: str
    blocking: bool
    when: str
    message: str
    offenders: str
    run_id: str
    remedy: Remedy = Remedy()
    n_offenders: int = 0
    picture: str = ""
