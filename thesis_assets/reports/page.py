"""The one place that makes a page: a jinja2 environment, and the base template with the look that all pages share.

A page `<name>` is a template `templates/<name>.html.j2` that extends `page.html.j2`, with its style sheet `<name>.css` and its script
`<name>.js` beside it. Belongs here: what every page shares. Does not belong here: what a page is about.
"""

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render_page(name: str, title: str, *, data: Mapping[str, object] | None = None, **values: object) -> str:
    """The whole file of one page, which loads nothing. Text in `values` never becomes markup.

    Args:
        data: by element id, what the page's script reads as JSON; nothing in it can end its element.
        values: what the template `<name>.html.j2` speaks of; one that it asks for and that is missing is an error.
    """
    template = environment().get_template(f"{name}.html.j2")
    return template.render(name=name, title=title, data=data or {}, **values)


def data_uri(picture: bytes, kind: str) -> str:
    """A picture inside the file, as the address of an `<img>`; `kind` as in `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


@cache
def environment() -> "Environment":
    """Every value is escaped, every name must exist."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_function"] = lambda value, **_: orjson.dumps(value).decode()
    return made
