"""What every published output was made from, and whether it still is what one would make: by content, never by time or place.

    code_versions.py  of each step
    record.py     the made-from record, its identity and data version
    options.py    options that were resolved then, against those that an experiment's file sets now
    contents.py   what files hold, with the cache of their sizes and times that saves reading them
    making.py     writing a record: inputs digested before the work, outputs flushed before the record
    verdict.py    made, missing, stale or damaged, in words

Does not belong here: which outputs there are (`graph`), how any of them is made (its own room).
"""

from thesis_assets.provenance.code_versions import CODE_VERSIONS
from thesis_assets.provenance.contents import Contents
from thesis_assets.provenance.making import (
    LOST,
    Making,
    ask_anew,
    begin,
    is_asked_anew,
    may_rewrite,
    mend,
    rewrite,
    strike,
    take_over,
)
from thesis_assets.provenance.options import kept_defaults, kept_options, kept_part, options_of
from thesis_assets.provenance.record import MadeFrom, Output, Place, read_record, recorded, versions_of
from thesis_assets.provenance.stats import forget_stats
from thesis_assets.provenance.verdict import (
    ASKED_ANEW,
    FilesToFind,
    Older,
    Unit,
    Verdict,
    Wanted,
    examine,
    known_inputs,
    look,
)

__all__ = [
    "ASKED_ANEW",
    "CODE_VERSIONS",
    "LOST",
    "Contents",
    "FilesToFind",
    "MadeFrom",
    "Making",
    "Older",
    "Output",
    "Place",
    "Unit",
    "Verdict",
    "Wanted",
    "ask_anew",
    "begin",
    "examine",
    "forget_stats",
    "is_asked_anew",
    "kept_defaults",
    "kept_options",
    "kept_part",
    "known_inputs",
    "look",
    "may_rewrite",
    "mend",
    "options_of",
    "read_record",
    "recorded",
    "rewrite",
    "strike",
    "take_over",
    "versions_of",
]
