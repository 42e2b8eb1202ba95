"""The check dashboard: one self-contained HTML page, no network, everything from files escaped."""

import html
from pathlib import Path

from thesis_assets.defs.check_history import CheckRow
from thesis_assets.storage import write_text

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c2024; }
h1 { font-size: 1.4rem; margin-bottom: .2rem }
.counts span { display: inline-block; margin-right: 1.2rem }
label { margin-right: 1rem } input, select { font: inherit; padding: .15rem .4rem }
table { border-collapse: collapse; width: 100%; margin-top: 1rem }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e4e6ea; vertical-align: top }
th { position: sticky; top: 0; background: #fff }
.status { font-weight: 600 } .passed .status { color: #18794e } .failed .status { color: #c62a2f }
.warning .status { color: #946800 } .running .status { color: #0b68cb }
tr.failed td:first-child { border-left: 4px solid #c62a2f } pre { white-space: pre-wrap; margin: .3rem 0 }
td.when { white-space: nowrap; color: #60646c }
"""
_SCRIPT = """
const inputs = [...document.querySelectorAll('[data-filter]')];
function apply() {
  for (const row of document.querySelectorAll('tbody tr'))
    row.hidden = inputs.some(input => input.value && !row.dataset[input.dataset.filter].includes(input.value));
}
for (const input of inputs) input.addEventListener('input', apply);
"""


def write_check_page(path: Path, rows: list[CheckRow]) -> None:
    """Write the page of all checks, filtered in the browser by partition, check and status."""
    write_text(path, render_check_page(rows))


def render_check_page(rows: list[CheckRow]) -> str:
    """The page as HTML text; failed checks first, with their offenders unfolded."""
    counts = {
        status: sum(row.status == status for row in rows) for status in ("failed", "warning", "running", "passed")
    }
    summary = " ".join(f"<span>{count} {status}</span>" for status, count in counts.items())
    options = "".join(f"<option>{status}</option>" for status in counts)
    body = "\n".join(_row(row) for row in rows) or "<tr><td colspan='6'>No check has run yet.</td></tr>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Checks</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body>
<h1>Checks</h1>
<p class="counts">{summary}</p>
<p><label>partition <input data-filter="cell" placeholder="demo|tiny_a"></label>
<label>check <input data-filter="check"></label>
<label>status <select data-filter="status"><option value="">all</option>{options}</select></label></p>
<table><thead><tr><th>status</th><th>partition</th><th>asset</th><th>check</th><th>found</th><th>when (UTC)</th></tr></thead>
<tbody>
{body}
</tbody></table>
<script>{_SCRIPT}</script>
</body></html>
"""


def _row(row: CheckRow) -> str:
    def text(value: str) -> str:
        return html.escape(value, quote=True)

    offenders = ""
    if row.offenders:
        unfolded = " open" if row.status in ("failed", "warning") else ""
        offenders = f"<details{unfolded}><summary>offenders</summary><pre>{text(row.offenders)}</pre></details>"
    kind = " (blocking)" if row.blocking else ""
    return (
        f'<tr class="{row.status}" data-cell="{text(row.cell)}" data-check="{text(row.asset + "." + row.check)}" '
        f'data-status="{row.status}"><td class="status">{row.status}</td><td>{text(row.cell)}</td>'
        f"<td>{text(row.asset)}</td><td>{text(row.check)}{kind}</td>"
        f"<td>{text(row.message)}{offenders}<br><small>run {text(row.run_id)}</small></td>"
        f'<td class="when">{text(row.when)}</td></tr>'
    )
