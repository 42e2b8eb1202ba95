"""The page that is opened first: what there is, what it gained, how the checks stand, and where everything else lies.

Belongs here: what the page tells, as values. Does not belong here: where it comes from (`operations.index_content`), markup
(`templates/index_page.html.j2`).
"""

from dataclasses import dataclass, field

from thesis_assets.reports.check_page import STATUSES
from thesis_assets.reports.page import render_page


@dataclass(frozen=True)
class Link:
    """A page or file beside this one. `href` is relative; empty: there is none, and `note` says why."""

    text: str
    href: str = ""
    note: str = ""
    command: str = ""


@dataclass(frozen=True)
class RunPart:
    """One declared run.

    Attributes:
        state: in words, part by part.
        gain: over the unrefined render at the last epoch, with how sure it is.
        colour: of its curve; empty: it has none.
        recordings: how many files, and the paths of the first.
        opens: the command that opens them.
    """

    name: str
    state: list[str]
    failed: int = 0
    warnings: int = 0
    gain: str = ""
    certainty: str = ""
    colour: str = ""
    comparisons: list[Link] = field(default_factory=list)
    n_recordings: int = 0
    recordings: list[str] = field(default_factory=list)
    opens: str = ""


@dataclass(frozen=True)
class Triplet:
    """Pictures of one group: (what it is, data URI)."""

    group: str
    caption: str
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class ExperimentPart:
    """One experiment. `curves`: SVG as `gain_curves` draws it. `command`: what to give next where nothing is made yet."""

    name: str
    state: list[str]
    runs: list[RunPart] = field(default_factory=list)
    curves: str = ""
    curves_note: str = ""
    triplets: list[Triplet] = field(default_factory=list)
    triplets_note: str = ""
    command: str = ""


@dataclass(frozen=True)
class IndexContent:
    """All that the page tells.

    Attributes:
        counts: of checks by status.
        failed: checks that failed, linked into the check page; `more_failed` others are not named.
        files: tables and plots beside this page.
        not_for_sharing: datasets whose licence forbids passing on pictures that are in this page.
        unknown_licences: those of which that is not known.
    """

    experiments: list[ExperimentPart] = field(default_factory=list)
    waiting: list[ExperimentPart] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    failed: list[Link] = field(default_factory=list)
    more_failed: int = 0
    files: list[Link] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_for_sharing: list[str] = field(default_factory=list)
    unknown_licences: list[str] = field(default_factory=list)
    ui_url: str = ""
    made_at: str = ""


def render_index(content: IndexContent) -> str:
    """The page as HTML text."""
    return render_page("index_page", "thesis_assets", content=content)
