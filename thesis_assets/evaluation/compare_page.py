"""The compare page: one offline HTML file that shows where a run gained and where it hurt, frame by frame, worst first.

What stands still is written here; what moves (the slider, sorting, filtering) is in `compare_page.js` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.evaluation.compare_pictures import Pictures
from thesis_assets.evaluation.compare_scenes import scenes_section
from thesis_assets.evaluation.compared_runs import ComparedFrame, ComparedRuns
from thesis_assets.evaluation.leaderboard_tables import protocol_text
from thesis_assets.evaluation.metric_names import TASK_TITLES, ShownMetric, shown_metrics
from thesis_assets.layout import TASKS
from thesis_assets.pages.document import beside, data_block, escaped, html_page, theme_button
from thesis_assets.schemas.evaluation import DifferenceRow
from thesis_assets.schemas.lineage import LineageLink

FRAME_METRICS = ("psnr", "ssim", "lpips")


@dataclass(frozen=True)
class PageFacts:
    """What the page says about itself: when and by what it was made, and the root that paths are shown from."""

    made_at: str
    version: str
    root: Path


def render_compare_page(
    compared: ComparedRuns, pictures: Pictures, lineage: Sequence[LineageLink], facts: PageFacts
) -> str:
    """The page as HTML text.

    Args:
        lineage: what both runs were made from, down to the scenes.
    """
    body = "\n".join(
        [
            _header(compared),
            _cards(compared),
            scenes_section(compared),
            _frames_section(compared, pictures),
            _table_section(compared),
            _lineage_section(lineage),
            _colophon(compared, pictures, facts),
            data_block("data", _data(compared, pictures, facts)),
        ]
    )
    title = f"{compared.exp_name}: {compared.run_name} against {compared.baseline_name}"
    return html_page(
        title, body, style=beside(__file__, "compare_page.css"), script=beside(__file__, "compare_page.js")
    )


def _header(compared: ComparedRuns) -> str:
    step = "" if compared.step is None else f" · step {compared.step:,}"
    return f"""<header class="page"><div>
<p class="eyebrow">experiment {escaped(compared.exp_name)} · epoch {compared.epoch}{step} · novel views</p>
<h1>{escaped(compared.run_name)} <span class="muted">against</span> {escaped(compared.baseline_name)}</h1>
<p class="verdict">{_verdict(compared)}</p>
</div>{theme_button()}</header>"""


def _verdict(compared: ComparedRuns) -> str:
    """One paragraph that a person can quote: the number, how sure it is, and what is against it."""
    metric = _metric(compared.metric)
    row = _difference(compared, "nvs", compared.metric)
    paired = [frame.difference for frame in compared.frames if frame.difference is not None]
    if row is None or row.difference is None or not paired:
        return "No frame has a value on both sides."
    lost = sum(value < 0 for value in paired)
    kind = "gain" if row.difference > 0 else "loss"
    parts = [
        f"<strong class='{kind}'>{metric.number(row.difference, sign=True)} dB</strong> {escaped(metric.title)} over "
        f"{_count(row.n_scenes, 'scene')}{_certainty(row, metric)}."
    ]
    if row.n_scenes > 1:
        parts.append(f"{row.scenes_above} of {row.n_scenes} scenes gained{_sign_flip(row)}.")
    share = 100 * lost / len(paired)
    parts.append(
        f"{lost:,} of {_count(len(paired), 'frame')} ({share:.0f} %) lost, the worst {metric.number(min(paired), sign=True)} dB."
    )
    return " ".join(parts)


def _certainty(row: DifferenceRow, metric: ShownMetric) -> str:
    if row.low is None or row.high is None:
        return ""
    what = (
        "" if row.interval_over == "scenes" else " over the frames of these scenes; too few scenes to speak of others"
    )
    return f" (95 %: {metric.number(row.low, sign=True)} to {metric.number(row.high, sign=True)}{what})"


def _sign_flip(row: DifferenceRow) -> str:
    return "" if row.sign_flip_p is None else f" (exact sign-flip p = {row.sign_flip_p:.3f})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _metric(name: str) -> ShownMetric:
    return next(metric for metric in shown_metrics("nvs") if metric.name == name)


def _difference(compared: ComparedRuns, task: str, metric: str) -> DifferenceRow | None:
    return next((row for row in compared.differences if (row.task, row.metric) == (task, metric)), None)


def _cards(compared: ComparedRuns) -> str:
    cards = []
    for metric in shown_metrics("nvs"):
        row = _difference(compared, "nvs", metric.name)
        if row is None or row.difference is None or (metric.name == "psnr_channel_sum" and compared.metric == "psnr"):
            continue
        before, after = _means(compared, "nvs", metric.name)
        over = f"over {row.interval_over}" if row.interval_over else ""
        interval = (
            f"{metric.number(row.low, sign=True)} to {metric.number(row.high, sign=True)}" if over else "no interval"
        )
        cards.append(
            f'<div class="card"><div class="muted">{escaped(metric.heading)}</div>'
            f'<div class="delta {_kind(row.difference, metric)}">{metric.number(row.difference, sign=True)}</div>'
            f'<div>{metric.number(before)} <span class="muted">→</span> {metric.number(after)}</div>'
            f"<small>95 %: {interval} {over}</small></div>"
        )
    return f'<section class="cards">{"".join(cards)}</section>'


def _means(compared: ComparedRuns, task: str, metric: str) -> tuple[float | None, float | None]:
    pairs = [compared.values.get((scene, task, metric), (None, None)) for scene in compared.scenes]
    sides = []
    for values in zip(*pairs, strict=True):
        present = [value for value in values if value is not None]
        sides.append(sum(present) / len(present) if len(present) == len(values) else None)
    return sides[0], sides[1]


def _kind(difference: float | None, metric: ShownMetric) -> str:
    if not difference:
        return ""
    return "gain" if (difference > 0) == metric.higher_is_better else "loss"


def _frames_section(compared: ComparedRuns, pictures: Pictures) -> str:
    cameras = sorted({frame.cam_id for frame in compared.frames})
    scenes = "".join(f"<option>{escaped(scene)}</option>" for scene in compared.scenes)
    names = (compared.baseline_name, compared.run_name, "truth")
    solo = "".join(
        f'<button type="button" data-show="{place}" title="only this one ({place + 1})">{escaped(name)}</button>'
        for place, name in enumerate(names)
    )
    return f"""<section id="frames"><h2>Frames <small class="muted" id="count"></small></h2>
<div class="controls">
<label>order <select id="sort"><option value="worst">worst first</option><option value="best">best first</option>
<option value="change">largest change first</option><option value="lowest">lowest {escaped(compared.run_name)} first</option>
<option value="time">scene, camera, frame</option></select></label>
<label>scene <select id="scene"><option value="">all</option>{scenes}</select></label>
<label>camera <select id="camera"><option value="">all</option>{"".join(f"<option>{cam}</option>" for cam in cameras)}</select></label>
<label>frame <input id="text" size="8" placeholder="000123" inputmode="numeric" title="part of the frame's name (/)"></label>
<label><input type="checkbox" id="pictured"{" checked" if len(pictures.by_frame) < len(compared.frames) else ""}> with pictures only</label>
</div>
<canvas id="ranks" height="56" aria-label="differences of all shown frames, in order; click to go to one"></canvas>
<div class="bench">
<div class="view">
<div class="controls view-controls">
<button type="button" id="split" title="all three under two handles (0)">slider</button>
<button type="button" id="side" title="side by side (s)">side by side</button>{solo}
<button type="button" id="mapped" title="where it came nearer to the truth, and where it went away (d)">gain map</button>
<button type="button" id="zoom" title="1, 2, 4 times, around the pointer (z)">1×</button>
</div>
<div class="stage" id="stage" tabindex="-1">
{"".join(_layer(place, name) for place, name in enumerate(names))}
<div class="layer map" id="map"><canvas></canvas><span class="tag">gain map: <span class="gain">nearer</span> / <span class="loss">farther</span></span></div>
{"".join(_handle(place, names) for place in (0, 1))}
<p class="absent" id="absent" hidden></p>
</div>
<div class="facts" id="facts" aria-live="polite"></div>
<p class="muted keys no-print"><kbd>↑</kbd> <kbd>↓</kbd> frame, <kbd>←</kbd> <kbd>→</kbd> handle, <kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> one,
<kbd>0</kbd> slider, <kbd>s</kbd> side by side, <kbd>d</kbd> gain map, <kbd>z</kbd> zoom, <kbd>/</kbd> find, <kbd>t</kbd> colours</p>
</div>
<ol class="list" id="list" aria-label="frames"></ol>
</div>
<noscript><p>The slider and the list need JavaScript; everything else on this page does not.</p></noscript></section>"""


def _layer(place: int, name: str) -> str:
    return (
        f'<div class="layer" id="layer-{place}"><img alt="{escaped(name)}" draggable="false">'
        f'<span class="tag"><b>{escaped(name)}</b> <span class="value"></span></span></div>'
    )


def _handle(place: int, names: Sequence[str]) -> str:
    label = f"{names[place]} | {names[place + 1]}"
    return (
        f'<div class="handle" id="handle-{place}" role="slider" tabindex="0" aria-label="{escaped(label)}" '
        'aria-valuemin="0" aria-valuemax="100"></div>'
    )


def _table_section(compared: ComparedRuns) -> str:
    parts = []
    for task in TASKS:
        shown = [
            metric for metric in shown_metrics(task) if any(key[1:] == (task, metric.name) for key in compared.values)
        ]
        shown = [metric for metric in shown if any(value is not None for value in _means(compared, task, metric.name))]
        if shown:
            parts.append(f"<h3>{escaped(TASK_TITLES[task])}</h3>{_task_table(compared, task, shown)}")
    return f'<section id="table"><h2>Scenes and metrics</h2>{"".join(parts)}</section>'


def _task_table(compared: ComparedRuns, task: str, shown: Sequence[ShownMetric]) -> str:
    head = "".join(f'<th class="n" colspan="2">{escaped(metric.heading)}</th>' for metric in shown)
    sub = "".join(f'<th class="n">{escaped(compared.run_name)}</th><th class="n">Δ</th>' for _ in shown)
    lines = [
        _table_line(compared, task, shown, scene, [compared.values.get((scene, task, m.name)) for m in shown])
        for scene in compared.scenes
    ]
    if len(compared.scenes) > 1:
        lines.append(
            _table_line(compared, task, shown, "avg", [_means(compared, task, metric.name) for metric in shown])
        )
    return (
        f'<div class="scroll"><table><thead><tr><th rowspan="2">scene</th>{head}</tr><tr>{sub}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _table_line(
    compared: ComparedRuns,
    task: str,
    shown: Sequence[ShownMetric],
    scene: str,
    pairs: Sequence[tuple[float | None, float | None] | None],
) -> str:
    cells = []
    for metric, pair in zip(shown, pairs, strict=True):
        row = _difference(compared, task, metric.name)
        change = None if row is None else row.difference if scene == "avg" else row.by_scene.get(scene)
        cells.append(f'<td class="n">{metric.number(pair[1] if pair else None)}</td>')
        cells.append(f'<td class="n {_kind(change, metric)}">{metric.number(change, sign=True)}</td>')
    name = escaped(scene) if scene == "avg" else f'<a href="#scene={escaped(scene)}">{escaped(scene)}</a>'
    return f"<tr{' class=avg' if scene == 'avg' else ''}><td>{name}</td>{''.join(cells)}</tr>"


def _lineage_section(lineage: Sequence[LineageLink]) -> str:
    if not lineage:
        return ""
    trees = "".join(_link(link, depth=0) for link in lineage)
    broken = [link for root in lineage for link in root.breaks()]
    state = (
        f'<strong class="loss">The chain breaks in {_count(len(broken), "place")}.</strong>'
        if broken
        else "Every digest holds."
    )
    return (
        f'<section id="lineage"><h2>Where it comes from</h2><p>{state} <span class="muted">✓ computed when this page was made and equal '
        f'to the recorded one; · known by its record</span></p><ul class="lineage">{trees}</ul></section>'
    )


def _link(link: LineageLink, depth: int) -> str:
    sign = {"verified": "✓", "recorded": "·", "broken": "✗"}[link.state]
    digest = f' <code title="{escaped(link.digest)}">{escaped(link.digest[:12])}</code>' if link.digest else ""
    note = f' <span class="muted">{escaped(link.note)}</span>' if link.note else ""
    line = (
        f'<span class="sign {link.state}">{sign}</span> {escaped(link.kind)} <b>{escaped(link.name)}</b>{digest}{note}'
    )
    if not link.made_from:
        return f"<li>{line}</li>"
    below = "".join(_link(each, depth + 1) for each in link.made_from)
    unfolded = " open" if depth < 2 or any(link.breaks()) else ""
    return f"<li><details{unfolded}><summary>{line}</summary><ul>{below}</ul></details></li>"


def _colophon(compared: ComparedRuns, pictures: Pictures, facts: PageFacts) -> str:
    lines = [
        f"Protocol: {escaped(protocol_text(compared.protocol))}.",
        "Pictures are the 8-bit images that entered the metric, as JPEG; the numbers were computed from the originals. The gain map is "
        "computed from the JPEGs: to look at, not to measure.",
        *_left_out(compared, pictures),
    ]
    text = "".join(f"<p>{line}</p>" for line in lines)
    made = f"<p>Made {escaped(facts.made_at)} by thesis_assets {escaped(facts.version)}.</p>"
    return f'<section class="colophon"><h2>How to read this</h2>{text}{made}</section>'


def _left_out(compared: ComparedRuns, pictures: Pictures) -> Iterator[str]:
    n, shown = len(compared.frames), len(pictures.by_frame)
    if shown < n:
        yield (
            f"<strong>Left out:</strong> the pictures of {n - shown:,} of {_count(n, 'frame')}, so that the file stays small "
            f"({pictures.n_bytes / 1e6:.0f} MB of pictures are in). Each scene's worst frame, the worst, the best and an even choice between "
            "them are in; all frames are in the numbers, the list and the dots."
        )
    if pictures.scale < 1:
        yield f"Pictures are shown at {100 * pictures.scale:.0f} % of the size that was measured."
    for scene, reason in compared.left_out.items():
        yield f"<strong>Not compared:</strong> {escaped(scene)}: {escaped(reason)}."
    for place, reason in list(pictures.unreadable.items())[:5]:
        frame = compared.frames[place]
        yield f"<strong>No picture:</strong> {escaped(frame.scene_name)} cam_{frame.cam_id}/{escaped(frame.fname)}: {escaped(reason)}."


def _data(compared: ComparedRuns, pictures: Pictures, facts: PageFacts) -> dict[str, object]:
    """What the script needs, with short rows: a page may have a hundred thousand frames."""
    place_of = {scene: place for place, scene in enumerate(compared.scenes)}
    numbers = {place: number for number, place in enumerate(pictures.by_frame)}
    metrics = [compared.metric, *FRAME_METRICS[1:]]
    return {
        "names": [compared.baseline_name, compared.run_name, "truth"],
        "metrics": [[_metric(name).title, _metric(name).decimals, _metric(name).higher_is_better] for name in metrics],
        "scenes": compared.scenes,
        "folders": _folders(compared, facts.root),
        "frames": [
            [
                *(place_of[frame.scene_name], frame.cam_id, frame.fname),
                *(_short(side[name]) for name in metrics for side in (frame.baseline, frame.tuned)),
                numbers.get(place),
            ]
            for place, frame in enumerate(compared.frames)
        ],
        "pictures": list(pictures.by_frame.values()),
    }


def _folders(compared: ComparedRuns, root: Path) -> list[list[str]]:
    """By scene: where the images of both runs and the truth lie."""
    first: dict[str, ComparedFrame] = {}
    for frame in compared.frames:
        first.setdefault(frame.scene_name, frame)
    return [[_shown(path.parents[1], root) for path in first[scene].images] for scene in compared.scenes]


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
