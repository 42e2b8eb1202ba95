"""The check dashboard: failed first, offenders unfolded, filters that work in a browser, text from files never becomes markup."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thesis_assets.defs.check_history import CheckRow
from thesis_assets.defs.check_page import render_check_page, write_check_page
from thesis_assets.defs.metadata import table
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
    return CheckRow(**(values | changes))  # type: ignore[arg-type]


ROWS = [
    row(),
    row(check="manifest_matches_disk", status="passed", offenders=""),
    row(cell="v2", status="passed", offenders=""),
    row(cell="demo|tiny_a", asset="nvs", check="lpips_present", status="warning", blocking=False, message="no weights"),
    row(cell="demo|tiny_a", asset="nvs", check="nvs_required_files", status="passed", offenders="none of note"),
    row(cell="demo|tiny_b", asset="nvs", check="nvs_required_files", status="passed", offenders=""),
    row(cell="v2|tiny_a", asset="nvs", check="nvs_required_files", status="running", offenders="", message=""),
]


def test_a_failed_check_shows_its_offenders_unfolded_and_a_passed_one_folded() -> None:
    page = render_check_page([row(status="passed", offenders="none of note"), row()])
    failed, passed = page.split('id="outcomes"')[1].split("<tbody>")[1].split("</tr>")[:2]
    assert "<details open>" in failed
    assert "<details>" in passed
    assert "1 blocking check failed." in page


def test_names_from_disk_stay_text() -> None:
    evil = "</td><script>alert(1)</script>\"' onmouseover=x"
    page = render_check_page([row(cell=evil, check=evil, message=evil, offenders=evil, run_id=evil)], ui_url=UI)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "' onmouseover" not in page.replace("&#x27; onmouseover", "")


def test_the_page_loads_nothing_from_a_network() -> None:
    page = render_check_page(ROWS)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    assert render_check_page(ROWS, ui_url=UI).count(f'href="{UI}/runs/0123456789abcdef"') == len(ROWS)


def test_without_any_outcome_the_page_says_so(tmp_path: Path) -> None:
    write_check_page(tmp_path / "checks.html", [])
    assert "No check has run yet." in (tmp_path / "checks.html").read_text()


def test_a_table_of_the_ui_holds_names_as_values_not_as_markup() -> None:
    shown = table(("scene", "frames"), [("<b>*x*</b>|[a](javascript:1)", 3), ("d_a", 4)])
    assert [record.data["scene"] for record in shown.records] == ["<b>*x*</b>|[a](javascript:1)", "d_a"]
    assert [column.type for column in shown.schema.columns] == ["string", "int"]


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checks") / "checks.html"
    write_check_page(path, ROWS, ui_url=UI)
    return path


def test_the_page_filters_by_experiment_run_check_and_status(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as watched:
        shown = watched.page.locator("tr.outcome:visible")
        assert shown.count() == len(ROWS)
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
        assert watched.page.locator("tr.outcome:visible").count() == 1


def test_offenders_are_unfolded_and_a_sign_of_the_matrix_leads_to_its_outcome(browser: "Browser", page: Path) -> None:
    with opened(browser, page, size=(420, 800), colours="dark") as watched:
        assert watched.page.get_by_text("studio_pair00_hug__tcam4").first.is_visible()
        watched.page.click(".chip.failed")
        watched.page.locator(".matrix a[title='demo|tiny_a nvs.nvs_required_files: passed']").click()
        target = watched.page.locator("tr.outcome:target")
        assert target.is_visible()
        assert "none of note" not in target.inner_text()  # a passed one stays folded
        assert target.locator("a").get_attribute("href") == f"{UI}/runs/0123456789abcdef"
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 420
        watched.screenshot("check_page_phone")
