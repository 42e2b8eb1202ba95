"""The page of samples in a browser: it opens at once from a file, flags stay, and what it saves is the table that leaves them out."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.layout import DifixTree, SampleId, frame_name
from thesis_assets.reports.samples_page import ShownSample, chosen, render_samples_page
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.exclusions import read_exclusions
from thesis_assets.storage import write_bytes
from thesis_assets_tests.services.browser import opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

N_SAMPLES = 2000
MOST_BYTES, MOST_SECONDS = 60_000_000, 3.0


def rows(n: int) -> list[SampleRow]:
    return [
        row_of(SampleId("lab_pair01_talk", 1 + place % 4, 9, frame_name(place), frame_name(place)), "pair01")
        for place in range(n)
    ]


def write_images(tree: DifixTree, row: SampleRow, image: np.ndarray) -> None:
    write_bytes(tree.base / row.image_path, encode_png(image))
    for name in (row.target_image_path, row.ref_image_path):
        write_bytes(tree.base / name, encode_jpeg(image))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 samples of 940 x 1280: one image is on disk, and linked for all."""
    tree = DifixTree(tmp_path_factory.mktemp("samples"), "v1")
    every, rng = rows(N_SAMPLES), np.random.default_rng(0)
    # As full of edges as a photograph of people in a room.
    picture = Image.fromarray(rng.integers(0, 255, (64, 47, 3), np.uint8)).resize((940, 1280), Image.Resampling.BICUBIC)
    write_images(tree, every[0], np.asarray(picture))
    for row in every[1:]:
        for name, first in (
            (row.image_path, every[0].image_path),
            (row.target_image_path, every[0].target_image_path),
            (row.ref_image_path, every[0].ref_image_path),
        ):
            (tree.base / name).parent.mkdir(parents=True, exist_ok=True)
            (tree.base / name).hardlink_to(tree.base / first)
    shown = [ShownSample(row, "test" if place % 4 == 0 else "train") for place, row in enumerate(every)]
    path = tree.base / "samples.html"
    path.write_text(render_samples_page("v1", tree.base, shown, 77_000, ["lab: research only"]))
    return path


def test_two_thousand_samples_open_from_a_file_at_once(browser: "Browser", page: Path) -> None:
    assert page.stat().st_size < MOST_BYTES
    began = time.perf_counter()
    with opened(browser, page, size=(1440, 900)) as watched:
        watched.page.wait_for_function("document.querySelectorAll('#stage img')[0].naturalWidth > 0")
        seconds = time.perf_counter() - began
        assert seconds < MOST_SECONDS, f"{seconds:.1f} s"
        assert "2000 of 77000 samples" in watched.page.inner_text("header")
        assert "Not to be passed on" in watched.page.inner_text("header")
        assert watched.page.inner_text("#count") == "2,000 shown, 0 flagged"
        assert len(watched.page.query_selector_all("#list a")) < 100, "others come when they are asked for"
        watched.screenshot("samples", full_page=False)


def test_flags_survive_a_reload_and_are_saved_as_the_table_that_leaves_them_out(
    browser: "Browser", page: Path, tmp_path: Path
) -> None:
    with opened(browser, page, size=(1440, 900)) as watched:
        look = watched.page
        look.keyboard.press("f")
        look.keyboard.press("ArrowDown")
        look.keyboard.press("ArrowDown")
        look.keyboard.press("r")
        look.fill("#reason", 'dark, "two people" = one')
        look.keyboard.press("Enter")
        assert look.inner_text("#count") == "2,000 shown, 2 flagged"
        look.reload()
        assert look.inner_text("#count") == "2,000 shown, 2 flagged"
        look.check("#only")
        assert len(look.query_selector_all("#list a")) == 2
        with look.expect_download() as saving:
            look.click("#save")
        table = tmp_path / "exclude.csv"
        saving.value.save_as(table)
        assert saving.value.suggested_filename == "exclude.csv"
        look.uncheck("#only")
        look.keyboard.press("f")  # of the one that is shown: taken back
        watched.screenshot("samples_flagged", full_page=False)
        look.evaluate("localStorage.clear()")
    found, first = read_exclusions(table), rows(3)
    assert [(each.sample_id, each.reason) for each in found] == sorted(
        [(first[0].sample_id, ""), (first[2].sample_id, 'dark, "two people" = one')]
    )
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", each.when) for each in found)


def test_filters_the_slider_and_single_pictures(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as watched:
        look = watched.page
        look.select_option("#half", "test")
        assert look.inner_text("#count").startswith("500 shown")
        look.fill("#text", "tf000100")
        assert look.inner_text("#count").startswith("1 shown")
        look.keyboard.press("Escape")
        before = look.evaluate("document.querySelectorAll('#stage img')[1].style.clipPath")
        look.keyboard.press("ArrowRight")
        assert look.evaluate("document.querySelectorAll('#stage img')[1].style.clipPath") != before
        look.keyboard.press("3")
        visible = "[...document.querySelectorAll('#stage img')].map(each => each.style.visibility)"
        assert look.evaluate(visible) == ["hidden", "hidden", ""]


def test_what_cannot_be_read_is_told_in_its_place_and_names_do_not_become_markup(
    browser: "Browser", tmp_path: Path
) -> None:
    tree = DifixTree(tmp_path, "v1")
    (row,) = rows(1)
    text = render_samples_page("v1", tree.base, [ShownSample(row, "left out", "</script><b>dark</b>")], 1)
    page = tmp_path / "page.html"
    page.write_text(text)
    with opened(browser, page) as watched:
        assert "cannot be read" in watched.page.inner_text("#stage")
        assert "</script><b>dark</b>" in watched.page.inner_text("#facts")


def test_fewer_than_all_are_chosen_evenly() -> None:
    every = [ShownSample(row, "train") for row in rows(10)]
    assert chosen(every, 10) == chosen(every, 99) == every
    assert [each.row.target_fname for each in chosen(every, 3)] == ["000000", "000003", "000006"]
