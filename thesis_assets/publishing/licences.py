"""Whether a dataset's recordings may be passed on: what is known of licences, and the gate before any upload.

A recording of a scene holds its images: to share it is to share the data. Does not belong here: the upload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments.spec import DatasetEntry


class NotForSharing(ThesisAssetsError):
    """The licence of a dataset forbids passing it on."""


@dataclass(frozen=True)
class DatasetLicence:
    """What is known about one dataset.

    Attributes:
        name: as a card names it.
        redistribution: whether images of it may be passed on; None where nobody has looked yet.
    """

    name: str
    redistribution: bool | None


KNOWN_LICENCES: Mapping[str, DatasetLicence] = {
    "hi4d": DatasetLicence("Hi4D (research agreement, no redistribution)", redistribution=False),
    "studio": DatasetLicence("synthetic, drawn by thesis_assets", redistribution=True),
    "middlebury": DatasetLicence("Middlebury stereo 2014: no licence is named; cite the paper", redistribution=None),
}


def licence_of(dataset: str, entries: Mapping[str, DatasetEntry]) -> DatasetLicence:
    """The licence of a dataset; the user's entry decides over what is known."""
    known = KNOWN_LICENCES.get(dataset, DatasetLicence("unknown", redistribution=None))
    entry = entries.get(dataset, DatasetEntry())
    allowed = known.redistribution if entry.redistribution is None else entry.redistribution
    return DatasetLicence(entry.licence or known.name, allowed)


def licences_that_forbid(datasets: Iterable[str], entries: Mapping[str, DatasetEntry]) -> dict[str, str]:
    """By dataset the licence, of those whose images may not be passed on."""
    found = {name: licence_of(name, entries) for name in sorted(set(datasets))}
    return {name: licence.name for name, licence in found.items() if licence.redistribution is False}


def check_may_be_shared(datasets: Sequence[str], entries: Mapping[str, DatasetEntry]) -> list[str]:
    """Refuse datasets that may not be passed on. Returns a warning for each whose licence is not known.

    Args:
        entries: by dataset, what the user's experiment file says.

    Raises:
        NotForSharing: one of `datasets` is forbidden.
    """
    warnings = []
    for dataset in sorted(set(datasets)):
        licence = licence_of(dataset, entries)
        if licence.redistribution is False:
            raise NotForSharing(
                f"recordings of `{dataset}` hold its images, and its licence forbids passing them on",
                key=f"datasets.{dataset}.redistribution",
                found=licence.name,
                wanted="a licence that allows it",
                remedy=f"leave its scenes out, or, where you have the permission, say so in the experiment file: "
                f"`datasets: {{{dataset}: {{redistribution: true}}}}`",
            )
        if licence.redistribution is None:
            warnings.append(
                f"whether `{dataset}` may be passed on is not known here (licence: {licence.name}): be sure, and say "
                f"`redistribution: true` or `false` for it under `datasets` in the experiment file"
            )
    return warnings
