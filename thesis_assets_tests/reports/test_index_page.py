"""The index page: readable at any size, small with a hundred scenes and twenty runs, text stays text, and a first word where nothing is."""

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from thesis_assets.reports.gain_plots import gain_curves
from thesis_assets.reports.index_page import (
    ExperimentPart,
    IndexContent,
    Link,
    RunPart,
    Triplet,
    render_index,
)
from thesis_assets.reports.page import data_uri
from thesis_assets.schemas.evaluation import DifferenceRow
from thesis_assets_tests.services.browser import opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "</p><script>alert(1)</script>\"' onmouseover=x"


def difference(run_name: str, epoch: int, gain: float, scenes: int = 1, exp_name: str = "demo") -> DifferenceRow:
    enough = scenes >= 6
    return DifferenceRow(
        exp_name=exp_name,
        run_name=run_name,
        epoch=epoch,
        task="nvs",
        metric="psnr",
        against="unrefined",
        table_digest="d",
        n_scenes=scenes,
        difference=gain,
        low=gain - 0.123,
        high=gain + 0.123,
        interval_over="scenes" if enough else "frames",
        sign_flip_p=None,
        scenes_above=scenes,
        scenes_below=0,
        by_scene={f"s{n}": gain + 0.01 * n for n in range(scenes)},
        reason=None,
    )


def picture() -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.effect_noise((160, 120), 40).convert("RGB").save(content, "JPEG")
    return data_uri(content.getvalue(), "image/jpeg")


def a_large_world() -> IndexContent:
    """Two experiments of 100 scenes and 20 runs, with as many pictures as the page takes."""
    parts = []
    for exp_name in ("hi4d_v1", "hi4d_v2"):
        names = [f"lr{n:02d}e-5_warmup500_a_rather_long_name" for n in range(20)]
        rows = [
            difference(name, epoch, 0.01 * place + 0.05 * epoch / 30, 100, exp_name)
            for place, name in enumerate(names)
            for epoch in (10, 20, 30)
        ]
        curves = gain_curves(rows)
        assert curves is not None
        runs = [
            RunPart(
                name=name,
                state=["tuned, step 10,000 chosen", "evaluated on 100 scenes"],
                failed=place % 3,
                warnings=1,
                gain="+0.12 dB",
                certainty="95 %: +0.05 to +0.19 over 100 scenes",
                colour=curves.colours[name],
                comparisons=[
                    Link("compared with the unrefined render", "compare/a.html", "PSNR +0.123 dB, SSIM −0.0010")
                ],
                n_recordings=301,
                recordings=[f"data/results/{name}/hi4d_pair00_dance/{exp_name}/rerun/evaluation_epoch_0030.rrd"] * 4,
                opens=f"thesis-assets rerun open --web --exp {exp_name} --run {name}",
            )
            for place, name in enumerate(names)
        ]
        uri = picture()
        triplets = [
            Triplet(f"hi4d/pair{n:02d}", "a caption", [("render", uri), ("refined, epoch 30", uri), ("target", uri)])
            for n in range(12)
        ]
        parts.append(
            ExperimentPart(
                name=exp_name,
                state=["100 scenes", "90,000 samples to train on, 20,000 held out", "frozen"],
                runs=runs,
                curves=curves.svg,
                curves_note="whisker: 95 % over scenes",
                triplets=triplets,
                triplets_note="28 more groups are not pictured, so that this page stays small.",
            )
        )
    return IndexContent(
        experiments=parts,
        counts={"failed": 20, "warning": 40, "running": 0, "passed": 900},
        failed=[Link("nvs.nvs_required_files", "checks.html#a", "hi4d_v1 | lr")] * 12,
        more_failed=8,
        files=[Link("every run", "leaderboard.md")],
        not_for_sharing=["hi4d"],
    )


def test_where_nothing_is_made_the_page_says_what_to_give_first() -> None:
    waiting = [ExperimentPart("mine", ["declared, nothing made yet"], command="thesis-assets run --exp mine")]
    page = render_index(IndexContent(waiting=waiting))
    assert "Nothing is made yet" in page
    assert "thesis-assets demo</code>" in page
    assert "the program lies in <code>.venv/bin/</code> of the checkout" in page
    assert "thesis-assets run --exp mine</code>" in page
    assert "Every check passed" not in page


def test_names_stay_text_and_the_page_loads_nothing() -> None:
    run = RunPart(EVIL, [EVIL], 1, 1, EVIL, EVIL, "", [Link(EVIL, EVIL, EVIL, EVIL)], 1, [EVIL], EVIL)
    part = ExperimentPart(EVIL, [EVIL], [run], EVIL, EVIL, [Triplet(EVIL, EVIL, [(EVIL, "data:,")])], EVIL, EVIL)
    page = render_index(
        IndexContent(
            [part], [part], failed=[Link(EVIL, EVIL, EVIL)], files=[Link(EVIL, EVIL)], notes=[EVIL], made_at=EVIL
        )
    )
    assert "<script>alert" not in page
    assert "' onmouseover" not in page.replace("&#39; onmouseover", "")
    assert "http" not in page.replace("http-equiv", "")


def test_a_page_with_pictures_that_may_not_be_passed_on_says_so() -> None:
    page = render_index(IndexContent(not_for_sharing=["hi4d"], unknown_licences=["middlebury"]))
    assert "Do not pass this page on" in page
    assert "hi4d, whose licence forbids it" in page
    assert "middlebury may be passed on is not known" in page


def test_curves_have_whiskers_over_scenes_alone_and_dots_for_few_scenes() -> None:
    assert gain_curves([]) is None
    many = gain_curves([difference("a", 30, 0.1, scenes=8)])
    few = gain_curves([difference("a", 30, 0.1, scenes=3)])
    one = gain_curves([difference("a", 30, 0.1, scenes=1)])
    assert many is not None
    assert few is not None
    assert one is not None
    drawn = [
        len(re.findall("<use ", svg)) - len(re.findall(r'id="[xy]tick_', svg)) for svg in (many.svg, few.svg, one.svg)
    ]
    assert drawn[0] == drawn[2] + 2, "both ends of the whisker"
    assert drawn[1] == drawn[2] + 3, "a dot a scene, and no interval over frames"
    assert "http" not in many.svg
    assert "#010203" not in many.svg
    assert "currentColor" in many.svg


def test_a_hundred_scenes_and_twenty_runs_make_a_page_of_less_than_two_megabytes() -> None:
    page = render_index(a_large_world())
    assert len(page) < 2_000_000
    assert "28 more groups are not pictured" in page
    assert "and 297 more" in page


@pytest.mark.parametrize(("width", "colours"), [(1440, "light"), (390, "dark")])
def test_nothing_of_a_large_page_stands_out_of_it(
    browser: "Browser", tmp_path: Path, width: int, colours: Literal["light", "dark"]
) -> None:
    (tmp_path / "index.html").write_text(render_index(a_large_world()))
    with opened(browser, tmp_path / "index.html", size=(width, 900), colours=colours) as watched:
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
        assert watched.page.locator(".curves svg").first.is_visible()
        watched.screenshot(f"index_large_{width}")
