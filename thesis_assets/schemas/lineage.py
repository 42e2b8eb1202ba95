"""What a file was made from, as a chain of digests down to the scenes: one link a file, its makings below it."""

from collections.abc import Iterator
from typing import Literal

from thesis_assets.schemas.base import FileModel


class LineageLink(FileModel):
    """One file or thing of the chain.

    `state`: `verified` (its digest was computed now and is the one that what was made from it names), `recorded` (known by a
    record alone, since the thing itself was removed on request or carries no digest), `broken` (`note` says what differs).
    """

    kind: str
    name: str
    path: str | None = None
    digest: str | None = None
    state: Literal["verified", "recorded", "broken"]
    note: str = ""
    made_from: list["LineageLink"] = []

    def breaks(self) -> Iterator["LineageLink"]:
        """The broken links of the chain, from above."""
        if self.state == "broken":
            yield self
        for link in self.made_from:
            yield from link.breaks()


def linked(
    kind: str,
    name: str,
    *,
    path: object = None,
    digest: str | None = None,
    faults: list[str] | None = None,
    note: str = "",
    verified: bool = True,
    made_from: list[LineageLink] | None = None,
) -> LineageLink:
    """A link: broken where it has faults, which become its note."""
    return LineageLink(
        kind=kind,
        name=name,
        path=str(path) if path is not None else None,
        digest=digest,
        state="broken" if faults else "verified" if verified else "recorded",
        note="; ".join(faults) if faults else note,
        made_from=made_from or [],
    )
