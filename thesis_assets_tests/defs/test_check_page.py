"""The check dashboard: failed first, offenders unfolded, text from files never becomes markup."""

from thesis_assets.defs.check_history import CheckRow
from thesis_assets.defs.check_page import render_check_page
from thesis_assets.defs.metadata import table


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
        "run_id": "abc",
    }
    return CheckRow(**(values | changes))  # type: ignore[arg-type]


def test_a_failed_check_shows_its_offenders_unfolded_and_a_passed_one_folded() -> None:
    page = render_check_page([row(), row(status="passed", offenders="none of note")])
    failed, passed = page.split("<tbody>")[1].split("</tr>")[:2]
    assert "<details open>" in failed
    assert "<details>" in passed
    assert "1 failed" in page


def test_names_from_disk_stay_text() -> None:
    evil = "</td><script>alert(1)</script>"
    page = render_check_page([row(cell=evil, message=evil, offenders=evil)])
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_page_loads_nothing_from_a_network() -> None:
    page = render_check_page([row()])
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_a_table_of_the_ui_holds_names_as_values_not_as_markup() -> None:
    shown = table(("scene", "frames"), [("<b>*x*</b>|[a](javascript:1)", 3), ("d_a", 4)])
    assert [record.data["scene"] for record in shown.records] == ["<b>*x*</b>|[a](javascript:1)", "d_a"]
    assert [column.type for column in shown.schema.columns] == ["string", "int"]
