"""The `datasets` part: what the user says about the datasets that the scenes belong to."""

from thesis_assets.experiments.base import Part


class DatasetEntry(Part):
    """One dataset, by what stands before the first `_` of its scenes' names."""

    redistribution: bool | None = None
    """Whether images of it may be passed on: recordings hold them. None: as far as it is known here."""
    licence: str = ""
    """As a card names it; empty: as it is known here."""
