"""The base of every page: values stay text, data cannot end its element, a page asks for nothing from outside itself."""

import json
import re

import jinja2
import pytest

from thesis_assets.reports.page import TEMPLATES, environment

EVIL = "</script></td><script>alert(1)</script>\"' onmouseover=x & <!--"


def rendered(body: str, **values: object) -> str:
    template = environment().from_string('{% extends "page.html.j2" %}{% block body %}' + body + "{% endblock %}")
    return template.render({"name": "page", "title": "t", "data": {}} | values)


def test_a_value_never_becomes_markup() -> None:
    page = rendered('<p title="{{ value }}">{{ value }}</p>', value=EVIL, title=EVIL)
    assert "<script>alert" not in page
    assert "' onmouseover" not in page.replace("&#39; onmouseover", "")


def test_data_is_read_back_as_it_was_and_cannot_end_its_element() -> None:
    value = {"name": EVIL, "numbers": [1.5, None], "é": "☺"}
    page = rendered("", data={"facts": value})
    (block,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', page, re.DOTALL)
    assert json.loads(block) == value
    assert "<!--" not in page.split("<script", 1)[1]


def test_a_value_that_is_missing_is_an_error_and_not_an_empty_place() -> None:
    with pytest.raises(jinja2.UndefinedError, match="forgotten"):
        rendered("{{ forgotten }}")


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.glob("*.html.j2")))
def test_no_template_switches_escaping_off(template: str) -> None:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe|autoescape", text)
    assert "http://" not in text
    assert "https://" not in text


def test_markup_stands_in_templates_alone() -> None:
    tag = re.compile(r"</[a-z]+\d?>|<(div|table|tr|td|p|br|html|style|script|a|svg)( [a-z-]+=|>)")
    files = [path for path in TEMPLATES.parents[1].rglob("*.py") if tag.search(path.read_text(encoding="utf-8"))]
    assert files == []
    assert all(tag.search(path.read_text(encoding="utf-8")) for path in TEMPLATES.glob("*.html.j2"))
