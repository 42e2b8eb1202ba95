"""The page of samples: one offline HTML file with render, target and reference of each, where a person flags those to leave out.

How it looks is in `templates/samples_page.html.j2`, and what moves in `templates/samples_page.js`. The table that it saves is what
`thesis-assets samples exclude --from` reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.reports.page import data_uri, render_page
from thesis_assets.schemas.samples import SampleRow

HEIGHT = 160
"""Pixels of a picture, at least: of 940 x 1280 an eighth, at which a JPEG is decoded fastest; some 6 KB."""
QUALITIES = (85, 70, 55, 40, 25)
MAX_BYTES = 40_000_000
"""Of all pictures, before they become text: of busy ones in great number the quality gives way, first that of the busiest."""


@dataclass(frozen=True)
class ShownSample:
    """`half`: `train`, `test` or `left out`; `reason`: why it is left out, None where it is not."""

    row: SampleRow
    half: str
    reason: str | None = None


def chosen(samples: Sequence[ShownSample], limit: int) -> list[ShownSample]:
    """At most `limit` of them, evenly over all, in their order: one looks at every scene and camera."""
    n = len(samples)
    return list(samples) if n <= limit else [samples[place * n // limit] for place in range(limit)]


def render_samples_page(
    exp_name: str,
    base: Path,
    samples: Sequence[ShownSample],
    total: int,
    forbidding_licences: Sequence[str] = (),
    on_progress: Callable[[int], None] = lambda _: None,
) -> str:
    """The page as HTML text.

    Args:
        base: the snapshot's folder, which the rows' paths are below.
        total: how many samples were to choose from.
        on_progress: called with how many samples have their pictures.
    """
    rows = []
    for n_done, (shown, pictures) in enumerate(zip(samples, _pictures(base, samples), strict=True), start=1):
        row = shown.row
        rows.append(
            [row.sample_id, row.scene_name, f"{row.dataset}/{row.group_id}", shown.half, shown.reason, pictures]
        )
        on_progress(n_done)
    data: Mapping[str, object] = {"exp_name": exp_name, "samples": rows}
    return render_page(
        "samples_page",
        f"{exp_name}: samples",
        data={"data": data},
        exp_name=exp_name,
        shown=len(rows),
        total=total,
        scenes=sorted({shown.row.scene_name for shown in samples}),
        forbidding_licences=forbidding_licences,
    )


def _pictures(base: Path, samples: Sequence[ShownSample]) -> Iterator[tuple[str, ...] | None]:
    """Render, target and reference as data addresses; None where one of them cannot be read."""

    def of(shown: ShownSample) -> tuple[str, ...] | None:
        row = shown.row
        try:
            names = (row.image_path, row.target_image_path, row.ref_image_path)
            return tuple(_small(base / name, MAX_BYTES // (len(names) * len(samples))) for name in names)
        except (InvalidFile, FileNotFoundError):  # the sample's own check says so
            return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(of, samples)


def _small(path: Path, most: int) -> str:
    """At the best quality that takes at most so many bytes."""
    from thesis_assets.images.codecs import encode_jpeg, read_reduced, reduced

    image = reduced(read_reduced(path, HEIGHT), HEIGHT)
    content = b""
    for quality in QUALITIES:
        content = encode_jpeg(image, quality)
        if len(content) <= most:
            break
    return data_uri(content, "image/jpeg")
