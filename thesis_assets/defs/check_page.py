"""The check dashboard: one self-contained HTML page, a matrix partition x check, and below it every outcome with its offenders.

The page loads nothing; everything from files and names is escaped. What moves (filters) is in `check_page.js` beside it.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from thesis_assets.defs.check_history import CheckRow
from thesis_assets.pages.document import beside, escaped, html_page, theme_button
from thesis_assets.storage import write_text

STATUSES = ("failed", "warning", "running", "passed")
SIGNS = {"failed": "✗", "warning": "!", "running": "…", "passed": "✓"}


def write_check_page(path: Path, rows: list[CheckRow], *, ui_url: str = "") -> None:
    """Write the page of all checks.

    Args:
        ui_url: where the web UI is, for the links to runs; empty: their ids are shown without one.
    """
    write_text(path, render_check_page(rows, ui_url=ui_url, made_at=time.strftime("%Y-%m-%d %H:%M %Z")))


def render_check_page(rows: list[CheckRow], *, ui_url: str = "", made_at: str = "") -> str:
    """The page as HTML text; failed checks first, with their offenders unfolded."""
    body = "\n".join([_header(rows, made_at), _filters(rows), _matrix(rows), _outcomes(rows, ui_url)])
    return html_page("Checks", body, style=beside(__file__, "check_page.css"), script=beside(__file__, "check_page.js"))


def _header(rows: Sequence[CheckRow], made_at: str) -> str:
    cells = {row.cell for row in rows}
    if not rows:
        said = "No check has run yet."
    elif blocking := sum(row.status == "failed" and row.blocking for row in rows):
        said = f'<strong class="failed">{blocking} blocking {"check" if blocking == 1 else "checks"} failed.</strong> What is downstream stands still.'
    elif any(row.status in ("failed", "warning") for row in rows):
        said = "No blocking check failed; look at the warnings."
    else:
        said = "Every check passed."
    return f"""<header class="page"><div><h1>Checks</h1>
<p class="verdict">{said} <span class="muted">{len(rows)} outcomes in {len(cells)} partitions{", " + escaped(made_at) if made_at else ""}</span></p>
</div>{theme_button()}</header>"""


def _filters(rows: Sequence[CheckRow]) -> str:
    experiments = sorted({_experiment(row) for row in rows} - {""})
    runs = sorted({_rest(row) for row in rows} - {""})
    checks = list(dict.fromkeys(_check(row) for row in sorted(rows, key=lambda row: (row.asset, row.check))))
    buttons = "".join(
        f'<button type="button" class="chip {status}" data-status="{status}" aria-pressed="false">'
        f"<b>{sum(row.status == status for row in rows)}</b> {status}</button>"
        for status in STATUSES
    )
    return f"""<div class="controls" id="filters">{buttons}
{_select("experiment", "exp", experiments)}{_select("run or scene", "run", runs)}{_select("check", "check", checks)}
<label>find <input id="text" size="18" placeholder="in what was found (/)"></label>
<button type="button" id="clear">show all</button> <span class="muted" id="count" aria-live="polite"></span></div>"""


def _select(title: str, name: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{escaped(value)}</option>" for value in values)
    return f'<label>{title} <select id="{name}"><option value="">all</option>{options}</select></label>'


def _experiment(row: CheckRow) -> str:
    return "" if row.cell == "all" else row.cell.split("|")[0]


def _rest(row: CheckRow) -> str:
    """The second part of a partition: a run, or a scene."""
    return row.cell.partition("|")[2]


def _check(row: CheckRow) -> str:
    return f"{row.asset}.{row.check}"


def _matrix(rows: Sequence[CheckRow]) -> str:
    """A table a kind of partition: a line a partition, a column a check, a sign that leads to the outcome."""
    kinds: dict[int, list[CheckRow]] = {}
    for row in rows:
        kinds.setdefault(row.cell.count("|"), []).append(row)
    tables = [_matrix_table(of_kind) for _, of_kind in sorted(kinds.items())]
    return f'<section id="matrix">{"".join(tables)}</section>'


def _matrix_table(rows: Sequence[CheckRow]) -> str:
    found = {(row.cell, row.asset, row.check): row for row in rows}
    columns = list(
        dict.fromkeys((row.asset, row.check) for row in sorted(rows, key=lambda row: (row.asset, row.check)))
    )
    names = "".join(
        f'<th class="check{_first(place, columns)}"><span>{escaped(check)}<br><small>{escaped(asset)}</small></span></th>'
        for place, (asset, check) in enumerate(columns)
    )
    lines = []
    for cell in sorted({row.cell for row in rows}):
        row_of_cell = next(row for row in rows if row.cell == cell)
        signs = "".join(_sign(found.get((cell, *column)), place, columns) for place, column in enumerate(columns))
        lines.append(
            f'<tr data-exp="{escaped(_experiment(row_of_cell))}" data-run="{escaped(_rest(row_of_cell))}">'
            f'<th scope="row">{escaped(cell.replace("|", " | "))}</th>{signs}</tr>'
        )
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _first(place: int, columns: Sequence[tuple[str, str]]) -> str:
    """A class for the first column of an asset, which stands a little apart."""
    return " first" if place == 0 or columns[place - 1][0] != columns[place][0] else ""


def _sign(row: CheckRow | None, place: int, columns: Sequence[tuple[str, str]]) -> str:
    first = _first(place, columns)
    if row is None:
        return f'<td class="sign{first}"><span class="none" title="has not run">·</span></td>'
    title = escaped(f"{row.cell} {_check(row)}: {row.status}")
    return (
        f'<td class="sign{first}"><a class="{row.status}" href="#{_anchor(row)}" title="{title}" '
        f'aria-label="{title}">{SIGNS[row.status]}</a></td>'
    )


def _anchor(row: CheckRow) -> str:
    """Names of partitions and checks have letters, digits, `.`, `_`, `-` and `|` alone; anything else is shown, never linked by it."""
    return escaped(f"{row.cell}/{_check(row)}".replace(" ", "_"))


def _outcomes(rows: Sequence[CheckRow], ui_url: str) -> str:
    order = {status: place for place, status in enumerate(STATUSES)}
    ordered = sorted(rows, key=lambda row: (order[row.status], row.cell, row.asset, row.check))
    body = "\n".join(_outcome(row, ui_url) for row in ordered)
    return f"""<section id="outcomes"><h2>Outcomes</h2>
<div class="scroll"><table><thead><tr><th>status</th><th>partition</th><th>check</th><th>found</th><th>when (UTC)</th><th>run</th></tr></thead>
<tbody>{body}</tbody></table></div><p class="muted" id="nothing" hidden>Nothing fits the filters.</p></section>"""


def _outcome(row: CheckRow, ui_url: str) -> str:
    kind = (
        ""
        if row.blocking or row.status == "running"
        else ' <small title="a warning does not stop what is downstream">not blocking</small>'
    )
    return (
        f'<tr class="outcome {row.status}" id="{_anchor(row)}" data-exp="{escaped(_experiment(row))}" data-run="{escaped(_rest(row))}" '
        f'data-check="{escaped(_check(row))}" data-status="{row.status}">'
        f'<td class="status"><span aria-hidden="true">{SIGNS[row.status]}</span> {row.status}</td>'
        f'<td class="cell">{escaped(row.cell.replace("|", " | "))}</td>'
        f"<td><small>{escaped(row.asset)}</small><br><b>{escaped(row.check)}</b>{kind}</td>"
        f'<td class="found">{"".join(_found(row))}</td><td class="when">{escaped(row.when.replace("T", " ").removesuffix("+00:00"))}</td>'
        f"<td>{_run_link(row, ui_url)}</td></tr>"
    )


def _found(row: CheckRow) -> Iterator[str]:
    yield f'<div class="message">{escaped(row.message)}</div>'
    if row.offenders:
        lines = row.offenders.splitlines()
        unfolded = " open" if row.status in ("failed", "warning") else ""
        items = "".join(f"<li>{escaped(line)}</li>" for line in lines)
        yield f'<details{unfolded}><summary>{_first_offenders(len(lines))}</summary><ol class="offenders">{items}</ol></details>'


def _first_offenders(count: int) -> str:
    return "the offender" if count == 1 else f"the first {count} offenders"


def _run_link(row: CheckRow, ui_url: str) -> str:
    name = f"<code>{escaped(row.run_id[:8])}</code>"
    if not ui_url or not row.run_id:
        return name
    return f'<a href="{escaped(ui_url.rstrip("/"))}/runs/{escaped(row.run_id)}" rel="noreferrer">{name}</a>'
