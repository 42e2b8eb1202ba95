"""Command templates: what is refused, and that a value stays inside its word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thesis_assets.experiments.command_template import check_template, fill_template, placeholders
from thesis_assets.experiments.spec import Renders


@given(st.text(), st.text())
def test_a_value_stays_inside_its_word(value: str, other: str) -> None:
    words = fill_template("run --to={a}/x '{b} {a}' {{c}}", {"a": value, "b": other})

    assert words == ["run", f"--to={value}/x", f"{other} {value}", "{c}"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "no word"),
        ("render 'unclosed", "split"),
        ("render {scene", "expected"),
        ("render {nobody}", "unknown placeholder {nobody}"),
        ("render {scene_name.upper}", "plain name"),
        ("render {scene_name!r}", "plain name"),
        ("render {0}", "plain name"),
        ("cd x && render {scene_name}", "not a shell line"),
        ("render \0", "zero byte"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_when_the_file_is_read(template: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Renders(source="command", command=template)


def test_placeholders_are_named() -> None:
    check_template("a {x} {{y}}", ("x",))
    assert placeholders("a '{x} {z}' {{y}}") == {"x", "z"}
