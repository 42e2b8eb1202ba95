"""The compare page: which frames are paired, which pictures go in, and what a person can do with it in a browser."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.reports.compare_page import PageFacts, headline, render_compare_page, scenes_chart
from thesis_assets.reports.compared_runs import (
    EXACT_SIDE,
    ComparedRuns,
    Pictures,
    Trees,
    compare_runs,
    embed_pictures,
    picture_order,
)
from thesis_assets.schemas.evaluation import DifferenceRow
from thesis_assets.schemas.lineage import linked
from thesis_assets_tests.reports.compared_trees import write_run
from thesis_assets_tests.services.browser import Watched, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HURT = ("lab_talk", 28, "000001")
SIGMAS = {"lab_hug": 20.0, "lab_talk": 20.0}
TUNED, BASELINE = ("demo", "tuned"), ("demo", "baseline")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trees]:
    """Two runs over two scenes: the tuned one is better everywhere, but for one frame."""
    root = tmp_path_factory.mktemp("compared")
    return {
        "baseline": write_run(root, "baseline", SIGMAS),
        "tuned": write_run(root, "tuned", dict.fromkeys(SIGMAS, 18.0), hurt=[HURT]),
    }


@pytest.fixture(scope="module")
def compared(trees: dict[str, Trees]) -> ComparedRuns:
    return compare_runs((TUNED, trees["tuned"]), (BASELINE, trees["baseline"]))


@pytest.fixture(scope="module")
def pictures(compared: ComparedRuns) -> Pictures:
    return embed_pictures(compared.frames, max_frames=100, max_bytes=10_000_000)


def page_of(compared: ComparedRuns, pictures: Pictures, root: Path = Path("/")) -> str:
    scene = linked("scene", "lab_<hug>", digest="d" * 64)
    chain = linked("run", "demo/tuned", made_from=[linked("checkpoint", "model_10.pkl", made_from=[scene])])
    return render_compare_page(compared, pictures, [chain], PageFacts("2026-01-01", "0", root))


@pytest.fixture(scope="module")
def page(compared: ComparedRuns, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "compare.html"
    path.write_text(page_of(compared, pictures), encoding="utf-8")
    return path


# --- what is compared ------------------------------------------------------------------------------------------------


def test_the_frame_that_tuning_hurt_most_stands_first(compared: ComparedRuns) -> None:
    worst, second = compared.frames[:2]
    assert (worst.scene_name, worst.cam_id, worst.fname) == HURT
    assert (worst.difference or 0) < -5 < 0 < (second.difference or 0)
    assert worst.difference == pytest.approx((worst.tuned["psnr"] or 0) - (worst.baseline["psnr"] or 0))
    assert all(path.is_file() for path in worst.images)
    assert ["baseline" in str(path) for path in worst.images] == [True, False, False]


def test_a_scene_that_may_not_be_paired_is_left_out_with_its_reason(trees: dict[str, Trees], tmp_path: Path) -> None:
    other = write_run(tmp_path, "other", {"lab_hug": 20.0}, cameras=(4,))
    found = compare_runs(
        (TUNED, trees["tuned"]), (("demo", "other"), {**other, "lab_talk": trees["baseline"]["lab_talk"]})
    )
    assert found.scenes == ["lab_talk"]
    assert "cameras" in found.left_out["lab_hug"]
    assert {row.n_scenes for row in found.differences if row.metric == "psnr"} == {1}


def test_where_nothing_may_be_paired_there_is_no_page(trees: dict[str, Trees], tmp_path: Path) -> None:
    other = write_run(tmp_path, "other", dict.fromkeys(SIGMAS, 20.0), cameras=(4,))
    with pytest.raises(InvalidFile, match="nothing to compare") as error:
        compare_runs((TUNED, trees["tuned"]), (("demo", "other"), other))
    assert "cameras" in str(error.value)
    with pytest.raises(InvalidFile, match="not measured on both sides"):
        compare_runs((TUNED, trees["tuned"]), (BASELINE, trees["baseline"]), epoch=15)


def test_a_run_is_compared_with_its_own_unrefined_renders(tmp_path: Path) -> None:
    write_run(tmp_path, "tuned", SIGMAS, epoch=0, step=None)
    trees = write_run(tmp_path, "tuned", dict.fromkeys(SIGMAS, 18.0))
    found = compare_runs((TUNED, trees), None)
    assert (found.baseline_name, found.epoch) == ("unrefined", 30)
    assert {row.against for row in found.differences} == {"unrefined"}
    assert all((frame.difference or 0) > 0 for frame in found.frames)
    assert "epoch_0000" in str(found.frames[0].images[0])


# --- which pictures go in --------------------------------------------------------------------------------------------


def test_every_beginning_of_the_order_has_the_worst_of_each_scene_then_both_ends_and_the_middle(
    compared: ComparedRuns,
) -> None:
    order = picture_order(compared.frames)
    assert sorted(order) == list(range(len(compared.frames)))
    assert {compared.frames[place].scene_name for place in order[:2]} == set(SIGMAS)
    assert {0, 1, len(compared.frames) - 1} <= set(order[:5])


def test_pictures_are_bounded_in_number_and_bytes_and_the_page_says_what_is_left_out(
    compared: ComparedRuns, pictures: Pictures
) -> None:
    assert len(pictures.by_frame) == len(compared.frames) == 12
    few = embed_pictures(compared.frames, max_frames=3, max_bytes=10_000_000)
    assert len(few.by_frame) == 3
    small = embed_pictures(compared.frames, max_frames=100, max_bytes=pictures.n_bytes // 2)
    assert 0 < len(small.by_frame) < 12
    assert small.n_bytes <= pictures.n_bytes // 2
    assert "the pictures of 9 of 12 frames" in page_of(compared, few)
    assert "Left out" not in page_of(compared, pictures)


def test_a_damaged_picture_leaves_its_frame_without_one_and_is_named(trees: dict[str, Trees], tmp_path: Path) -> None:
    tuned = write_run(tmp_path, "tuned", dict.fromkeys(SIGMAS, 18.0))
    found = compare_runs((TUNED, tuned), (BASELINE, trees["baseline"]))
    found.frames[0].images[1].write_bytes(b"no picture")
    made = embed_pictures(found.frames, max_frames=100, max_bytes=10_000_000)
    assert list(made.unreadable) == [0]
    assert found.frames[0].fname in page_of(found, made).split("No picture:")[1][:200]
    many = replace(made, unreadable=dict.fromkeys(range(8), "cut short"))
    assert page_of(found, many).count("cut short") == 5
    assert "of 3 more." in page_of(found, many)


# --- the page --------------------------------------------------------------------------------------------------------


def test_text_from_outside_never_becomes_markup(compared: ComparedRuns, pictures: Pictures) -> None:
    text = page_of(compared, pictures)
    assert "lab_<hug>" not in text
    assert "lab_&lt;hug&gt;" in text
    assert text.count("</script>") == 2  # its own: nothing in the data ends one


def test_the_page_says_what_a_person_would_quote(compared: ComparedRuns, pictures: Pictures) -> None:
    text = page_of(compared, pictures)
    assert "1 of 12 frames (8\u00a0%) lost PSNR" in text
    assert "too few scenes and frames to say how sure that is" in text
    assert "sign-flip p = " in text


def test_what_rose_never_stands_without_what_fell(compared: ComparedRuns, pictures: Pictures) -> None:
    """A page that says "+0.5 dB" alone lets a reader cite a run that lost SSIM."""
    assert headline(compared).startswith("epoch 30: PSNR ")
    (ssim,) = (row for row in compared.differences if row.metric == "ssim")
    fell = ssim.model_copy(update={"difference": -0.01, "low": -0.02, "high": -0.005})
    mixed = replace(compared, differences=[fell if row is ssim else raised(row) for row in compared.differences])
    text = verdict_of(page_of(mixed, pictures))
    assert (
        text == "Nearer to the truth by PSNR +0.500 dB, but farther from the truth by SSIM −0.0100; LPIPS not measured."
    )
    assert "SSIM -0.0100" in headline(mixed)
    unsure = replace(
        mixed, differences=[row.model_copy(update={"low": -0.1, "high": 0.1}) for row in mixed.differences]
    )
    assert verdict_of(page_of(unsure, pictures)).startswith("Not decided by PSNR +0.500 dB and SSIM −0.0100")


def raised(row: DifferenceRow) -> DifferenceRow:
    return row.model_copy(update={"difference": 0.5, "low": 0.4, "high": 0.6}) if row.metric == "psnr" else row


def verdict_of(page: str) -> str:
    (found,) = re.findall(r'<p class="verdict">(.*?)</p>', page, re.DOTALL)
    return re.sub("<[^>]*>", "", found)


def test_what_is_the_same_on_both_sides_folds_into_a_line(compared: ComparedRuns, pictures: Pictures) -> None:
    bodies = {(scene, "pose_smplx", "mpjpe_mm"): (94.504, 94.504) for scene in compared.scenes}
    still = {key: (pair[1], pair[1]) for key, pair in compared.values.items() if key[0] == "lab_hug"}
    rows = [row.model_copy(update={"by_scene": {"lab_talk": 1.0}}) for row in compared.differences]
    same = replace(compared, values={**compared.values, **still, **bodies}, differences=rows)
    table = page_of(same, pictures).split('<section id="table">')[1].split("</section>")[0]
    views, folded = table.split("<details")
    assert "The same on both sides: lab_hug." in views
    assert "PSNR*" not in views  # it moves as the PSNR beside it
    assert "in every scene and measure: MPJPE 94.50 mm</summary>" in folded


def test_large_pictures_are_jpeg_and_the_page_says_so(tmp_path: Path) -> None:
    size = (EXACT_SIDE + 2, 32)
    one = {"cameras": (4,), "frames": ("000000",), "size": size}
    pair = [
        write_run(tmp_path, name, {"lab_hug": sigma}, **one) for name, sigma in (("tuned", 18.0), ("baseline", 20.0))
    ]
    found = compare_runs((TUNED, pair[0]), (BASELINE, pair[1]))
    large = embed_pictures(found.frames, max_frames=1, max_bytes=10_000_000)
    assert all(image.startswith("data:image/jpeg") for image in large.by_frame[0])
    assert "as JPEG" in page_of(found, large)


@pytest.mark.parametrize("values", [(0.0, 0.0), (0.1, -0.05), (1e-6, 0.0), (19.0, 20.0), (-7.0, -7.0), (1234.5, -0.01)])
def test_the_axis_of_scenes_holds_zero_and_every_value(compared: ComparedRuns, values: tuple[float, float]) -> None:
    by_scene = dict(zip(compared.scenes, values, strict=True))
    changes = {"by_scene": by_scene, "difference": sum(values) / 2, "low": None, "high": None}
    rows = [row.model_copy(update=changes) for row in compared.differences if row.metric == "psnr"]
    frames = [replace(frame, difference=by_scene[frame.scene_name]) for frame in compared.frames]
    chart = scenes_chart(replace(compared, differences=rows, frames=frames))
    assert chart is not None
    assert {text for place, text in chart.ticks if place == chart.zero} == {"0"}
    assert (chart.ticks[0][0], chart.ticks[-1][0]) == (0, 100)
    assert 2 <= len(chart.ticks) <= 9
    dots = {row.scene: row.dot for row in chart.rows}
    for scene, value in by_scene.items():
        assert 0 < dots[scene] < 100
        assert abs(value) < 1e-5 or (dots[scene] > chart.zero) == (value > 0)


def current(watched: Watched) -> str:
    return watched.page.locator("#here").inner_text()


def deltas(watched: Watched) -> list[float]:
    texts = watched.page.locator("#list .d").all_inner_texts()
    return [float(text.replace("−", "-")) for text in texts]


def cut(watched: Watched, handle: int) -> float:
    return float(watched.page.locator(f"#handle-{handle}").get_attribute("aria-valuenow") or "nan")


def test_the_page_opens_from_a_file_and_its_slider_moves_by_pointer_and_key(browser: "Browser", page: Path) -> None:
    with opened(browser, page, size=(1440, 900)) as watched:
        watched.page.wait_for_selector("#layer-0 img[src^='data:image/png']")
        assert current(watched) == "lab_talk/cam_28/000001"
        assert watched.page.evaluate("document.querySelector('#layer-1 img').naturalWidth") == 48
        before = cut(watched, 1)
        watched.page.locator("#handle-1").scroll_into_view_if_needed()
        stage = watched.page.locator("#stage").bounding_box()
        assert stage is not None
        grip = watched.page.locator("#handle-1").bounding_box()
        assert grip is not None
        rail = grip["y"] + grip["height"] - 12
        watched.page.mouse.move(grip["x"] + grip["width"] / 2, rail)
        watched.page.mouse.down()
        watched.page.mouse.move(stage["x"] + 0.9 * stage["width"], rail, steps=3)
        watched.page.mouse.up()
        assert cut(watched, 1) == pytest.approx(90, abs=2) != before
        assert "inset(0" in (watched.page.locator("#layer-2 .picture").get_attribute("style") or "")
        watched.page.keyboard.press("ArrowLeft")
        assert cut(watched, 1) == pytest.approx(88, abs=2)
        watched.page.keyboard.press("3")
        assert watched.page.locator("#layer-2 img").is_visible()
        assert not watched.page.locator("#layer-0 img").is_visible()
        watched.screenshot("compare_page")


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_pictures_fill_their_column_with_sharp_pixels_whole_labels_and_handles_below(
    browser: "Browser", compared: ComparedRuns, pictures: Pictures, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "page.html"
    named = replace(
        compared, run_name="lr2e-5_lpips1.0_gram0.5_resolution512", baseline_name="difix_without_a_reference"
    )
    path.write_text(page_of(named, pictures), encoding="utf-8")
    with opened(browser, path, size=size) as watched:
        watched.page.wait_for_selector(".stage.enlarged")
        picture = watched.page.locator("#layer-1 .picture").bounding_box()
        column = watched.page.locator(".view").bounding_box()
        handle = watched.page.locator("#handle-0").bounding_box()
        assert picture is not None
        assert column is not None
        assert handle is not None
        assert picture["width"] == pytest.approx(column["width"], abs=1)
        assert picture["width"] > 5 * 48  # pixels of the measured image
        assert handle["y"] + handle["height"] > picture["y"] + picture["height"] + 20  # what one takes hold of
        assert (
            watched.page.evaluate("getComputedStyle(document.querySelector('#layer-1 img')).imageRendering")
            == "pixelated"
        )
        cut = "[...document.querySelectorAll('.tag, .name, h1, th, button')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        assert watched.page.evaluate(f"{cut}.map(each => each.textContent)") == []
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_frames_are_sorted_filtered_and_followed_by_links(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as watched:
        worst_first = deltas(watched)
        assert len(worst_first) == 12
        assert worst_first == sorted(worst_first)
        watched.page.select_option("#sort", "best")
        assert deltas(watched) == sorted(worst_first, reverse=True)
        watched.page.select_option("#sort", "worst")
        watched.page.select_option("#metric", label="SSIM")
        assert deltas(watched) == sorted(deltas(watched)) != worst_first
        watched.page.click(".dots a[data-scene='lab_hug']")
        watched.page.wait_for_selector(".dots a[data-scene='lab_hug'][aria-current]")
        assert len(deltas(watched)) == 6
        link = watched.page.locator("#list a", has_text="cam 4 · 000002")
        link.click()
        assert current(watched) == "lab_hug/cam_4/000002"
        assert watched.page.url.endswith("#frame=lab_hug/cam_4/000002")
        watched.page.keyboard.press("ArrowUp")
        assert current(watched) != "lab_hug/cam_4/000002"
        watched.page.fill("#text", "no such frame")
        assert watched.page.locator("#absent").is_visible()


def test_a_link_to_a_frame_opens_on_that_frame(browser: "Browser", page: Path) -> None:
    with opened(browser, page.as_uri() + "#frame=lab_hug/cam_28/000002") as watched:
        assert current(watched) == "lab_hug/cam_28/000002"


def test_the_gain_map_and_the_side_by_side_view_work_in_the_dark_and_on_a_phone(browser: "Browser", page: Path) -> None:
    with opened(browser, page, size=(390, 844), colours="dark") as watched:
        watched.page.wait_for_selector("#layer-0 img[src^='data:image/png']")
        watched.page.keyboard.press("s")
        watched.page.keyboard.press("d")
        watched.page.wait_for_selector("#map canvas[width='48']", state="attached")
        assert watched.page.locator("#map canvas").is_visible()
        width = watched.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390  # nothing sticks out sideways
        background = "getComputedStyle(document.body).backgroundColor"
        dark = watched.page.evaluate(background)
        watched.page.keyboard.press("t")
        assert watched.page.evaluate(background) != dark
        watched.screenshot("compare_page_phone")


def test_without_scripts_the_numbers_are_there(browser: "Browser", page: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        plain = context.new_page()
        plain.goto(page.as_uri())
        assert "PSNR" in plain.locator(".verdict").inner_text()
        assert "of 12 frames" in plain.locator(".evidence").inner_text()
        assert plain.locator(".dots a.row").count() == 2
        assert plain.locator("#lineage").is_visible()
    finally:
        context.close()
