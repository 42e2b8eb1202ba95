"""The outcome of a check: passed or not, how much was looked at, the first offenders."""

from thesis_assets.schemas.base import FileModel

MAX_OFFENDERS = 20


class CheckOutcome(FileModel):
    """What a check found. Counts and offenders stand in it on pass as on fail; `picture`: a JPEG of the first offenders."""

    passed: bool
    message: str
    counts: dict[str, int | float] = {}
    offenders: list[str] = []
    picture: bytes | None = None

    @classmethod
    def of(cls, offenders: list[str], *, message: str, counts: dict[str, int | float] | None = None) -> "CheckOutcome":
        """Passed where there is no offender; keeps the first `MAX_OFFENDERS` and the number of all."""
        return cls(
            passed=not offenders,
            message=message,
            counts={**(counts or {}), "offenders": len(offenders)},
            offenders=offenders[:MAX_OFFENDERS],
        )

    @classmethod
    def of_nothing(cls, what: str) -> "CheckOutcome":
        """Failed, as there was nothing to look at: an empty set would pass every check."""
        return cls.of([f"{what} is empty"], message=f"there is nothing to check: {what} is empty")
