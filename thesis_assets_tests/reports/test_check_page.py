"""The check page: what failed first, with the command that mends it; what passed folded; readable at any size; text stays text."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thesis_assets.graph.check_history import remedy_of
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import NODES
from thesis_assets.operations.metadata import table
from thesis_assets.reports.check_page import render_check_page
from thesis_assets.schemas.checks import CheckRow, Remedy
from thesis_assets_tests.services.browser import opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

UI = "http://127.0.0.1:3000"


def row(**changes: object) -> CheckRow:
    values = {
        "asset": "sample_set",
        "check": "every_sample_complete",
        "cell": "demo",
        "status": "failed",
        "blocking": True,
        "when": "2026-01-01T00:00:00+00:00",
        "message": "1 sample is not complete",
        "offenders": "studio_pair00_hug__tcam4",
        "run_id": "0123456789abcdef",
    }
    made = CheckRow(**(values | changes))  # type: ignore[arg-type]
    if made.status in ("failed", "warning") and "remedy" not in changes:
        return CheckRow(**{**made.__dict__, "remedy": remedy_of(made.asset, made.check, made.cell)})
    return made


ROWS = [
    row(),
    row(check="manifest_matches_disk", status="passed", offenders=""),
    row(cell="v2", status="passed", offenders=""),
    row(cell="demo|tiny_a", asset="nvs", check="lpips_present", status="warning", blocking=False, message="no weights"),
    row(cell="demo|tiny_a", asset="nvs", check="nvs_required_files", status="passed", offenders="none of note"),
    row(cell="demo|tiny_b", asset="nvs", check="nvs_required_files", status="passed", offenders=""),
    row(cell="v2|tiny_a", asset="nvs", check="nvs_required_files", status="running", offenders="", message=""),
]


def a_large_world() -> list[CheckRow]:
    """Every check of three experiments with 20 runs each over 100 scenes: a run in four has a failure, every run a warning."""
    scenes = (
        "; ".join(f"hi4d_pair{n:02d}_dance: required files, and more words" for n in range(5)) + "; and 95 more scenes"
    )
    rows = []
    for exp in ("hi4d_v1", "hi4d_v2", "mmm_v1"):
        for asset, checks in CHECKS.items():
            cells = [exp] if NODES[asset].kind == "exp" else [f"{exp}|lr{n:02d}e-5_warmup500" for n in range(20)]
            for name, check in checks.items():
                for place, cell in enumerate(cells):
                    status = "passed"
                    if name == "lpips_present":
                        status = "warning"
                    elif name == "nvs_required_files" and place % 4 == 3:
                        status = "failed"
                    offenders = "\n".join(f"evaluation/epoch_0030/nvs/metrics/cam_{n}: missing" for n in range(20))
                    rows.append(
                        row(
                            asset=asset,
                            check=name,
                            cell=cell,
                            status=status,
                            blocking=check.blocks,
                            message=scenes,
                            offenders="" if status == "passed" else offenders,
                        )
                    )
    return rows


def test_a_failed_check_stands_first_with_its_offenders_and_the_command_and_a_passed_one_is_folded() -> None:
    page = render_check_page([row(status="passed", cell="v2"), row()])
    failed, rest = page.split('<section id="open">')[1].split("</article>", 1)
    assert "<details open>" in failed
    assert "thesis-assets run --exp demo</code>" in failed
    passed = rest.split('<section id="passed">')[1]
    assert '<details class="experiment" data-exp="v2">' in passed
    assert "1 blocking check failed." in page


@pytest.mark.parametrize(
    ("n_lines", "n_all", "said"),
    [
        (1, 1, "the offender"),
        (3, 3, "3 offenders"),
        (3, 0, "3 offenders"),
        (20, 57, "the first 20 of 57 offenders"),
        (1, 2, "the first 1 of 2 offenders"),
    ],
)
def test_first_offenders_are_called_so_only_where_there_are_more(n_lines: int, n_all: int, said: str) -> None:
    lines = "\n".join(f"sample {n}" for n in range(n_lines))
    assert f"<summary>{said}</summary>" in render_check_page([row(offenders=lines, n_offenders=n_all)])


def test_the_first_offenders_stand_side_by_side_where_the_check_has_a_picture() -> None:
    address = "data:image/jpeg;base64,/9j/"
    page = render_check_page([row(picture=address), row(cell="v2")])
    assert page.count("<img") == 1
    assert f'<img class="pairs" src="{address}"' in page


def test_names_from_disk_stay_text() -> None:
    evil = "</td><script>alert(1)</script>\"' onmouseover=x"
    remedy = Remedy(evil, (evil,))
    page = render_check_page(
        [row(cell=evil, check=evil, message=evil, offenders=evil, run_id=evil, remedy=remedy)], ui_url=UI
    )
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "' onmouseover" not in page.replace("&#39; onmouseover", "")


def test_the_page_loads_nothing_from_a_network() -> None:
    page = render_check_page(ROWS)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    assert render_check_page(ROWS, ui_url=UI).count(f'href="{UI}/runs/0123456789abcdef"') == len(ROWS)


def test_without_any_outcome_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "checks.html").write_text(render_check_page([]))
    assert "No check has run yet." in (tmp_path / "checks.html").read_text()


def test_a_hundred_scenes_and_twenty_runs_make_a_small_page_that_shows_few_of_many_equal_failures() -> None:
    rows = a_large_world()
    page = render_check_page(rows)
    assert len(rows) > 1000
    assert len(page) < 2_000_000
    to_look_at, folded = page.split('<section id="open">')[1].split('<section id="matrix">')
    assert to_look_at.count('<section class="group') == 2
    assert "in 60 partitions" in to_look_at
    assert "57 more partitions" in to_look_at
    assert folded.count("<article") == 0


def test_a_table_of_the_ui_holds_names_as_values_not_as_markup() -> None:
    shown = table(("scene", "frames"), [("<b>*x*</b>|[a](javascript:1)", 3), ("d_a", 4)])
    assert [record.data["scene"] for record in shown.records] == ["<b>*x*</b>|[a](javascript:1)", "d_a"]
    assert [column.type for column in shown.schema.columns] == ["string", "int"]


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checks") / "checks.html"
    path.write_text(render_check_page(ROWS, ui_url=UI))
    return path


def test_the_page_filters_by_experiment_run_check_and_status(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as watched:
        shown, kept = watched.page.locator(".outcome:visible"), watched.page.locator(".outcome:not([hidden])")
        assert kept.count() == len(ROWS)
        assert shown.count() == sum(row.status != "passed" for row in ROWS), "what passed is folded"
        assert "failed" in (shown.first.get_attribute("class") or "")
        watched.screenshot("check_page")
        for select, value, count in (("#exp", "demo", 5), ("#run", "tiny_a", 2), ("#check", "nvs.lpips_present", 1)):
            watched.page.select_option(select, value)
            assert shown.count() == count
        assert "1 of 7" in watched.page.locator("#count").inner_text()
        watched.page.click("#clear")
        watched.page.click(".chip.warning")
        watched.page.click(".chip.running")
        assert shown.count() == 2
        watched.page.fill("#text", "WEIGHTS")
        assert shown.count() == 1
        address = watched.page.url
    with opened(browser, address) as watched:
        assert watched.page.locator(".outcome:visible").count() == 1


def test_a_sign_of_the_matrix_leads_to_its_outcome_also_where_that_is_folded_or_filtered_away(
    browser: "Browser", page: Path
) -> None:
    with opened(browser, page, size=(390, 800), colours="dark") as watched:
        assert watched.page.get_by_text("studio_pair00_hug__tcam4").first.is_visible()
        watched.page.click(".chip.failed")
        watched.page.locator(".matrix a[title='demo|tiny_a nvs.nvs_required_files: passed']").click()
        target = watched.page.locator("tr.outcome:target")
        assert target.is_visible()
        assert "none of note" not in target.inner_text()  # its offenders stay folded
        assert target.locator("a").get_attribute("href") == f"{UI}/runs/0123456789abcdef"
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
        watched.screenshot("check_page_phone")


@pytest.mark.parametrize("width", [1440, 390])
def test_a_large_page_opens_at_once_and_nothing_stands_out_of_it(
    browser: "Browser", tmp_path: Path, width: int
) -> None:
    (tmp_path / "checks.html").write_text(render_check_page(a_large_world(), ui_url=UI))
    with opened(browser, tmp_path / "checks.html", size=(width, 900)) as watched:
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
        assert watched.page.locator("article.outcome:visible").count() == 6
        watched.screenshot(f"check_page_large_{width}")
        watched.page.select_option("#run", "lr03e-5_warmup500")
        assert watched.page.locator(".outcome.failed:visible").count() == 3


def test_cells_that_are_not_made_stand_on_the_page_with_why_and_the_command() -> None:
    cell = {
        "asset": "nvs",
        "cell": "demo|tiny_a",
        "state": "damaged",
        "why": "`a.csv` (0 bytes, was 4)",
        "mend": "run <it>",
    }
    page = render_check_page(ROWS, not_made=[cell] * 120)
    assert page.count("`a.csv` (0 bytes, was 4)") == 100
    assert "and 20 more" in page
    assert "run &lt;it&gt;" in page
    assert "Not made" not in render_check_page(ROWS)
