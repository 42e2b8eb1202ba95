"""The one place that makes a page: a jinja2 environment, and the base template with the look that all pages share.

A page `<name>` is a template `<name>.html.j2` here that extends `document.html.j2`, with its style sheet `<name>.css` and its script
`<name>.js` beside it. Belongs here: what every page shares. Does not belong here: what a page is about.
"""

import base64
import html
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The browser itself then refuses whatever would leave the file."""
FOLDER = Path(__file__).parent


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
    """Every value is escaped, every name must exist; `file(name)` gives a style sheet or a script that lies here as it is."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["file"] = _file
    made.policies["json.dumps_function"] = lambda value, **_: orjson.dumps(value).decode()
    return made


def _file(name: str) -> "Markup":
    from markupsafe import Markup

    return Markup((FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704 - our own files


# --- for pages that are still put together as text ------------------------------------------------------------------


def escaped(value: object) -> str:
    """Any value as text inside an element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def beside(module_file: str, name: str) -> str:
    """The text of a style sheet or script that lies beside a module."""
    return Path(module_file).with_name(name).read_text(encoding="utf-8")


def data_block(element_id: str, value: object) -> str:
    """A value that the page's script reads as JSON; nothing in it can end the element."""
    text = orjson.dumps(value).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{escaped(element_id)}">{text}</script>'


def html_page(title: str, body: str, *, style: str, script: str) -> str:
    """The whole file.

    Args:
        body: markup; every text in it went through `escaped`.
        style: rules of this page, after the common ones.
        script: runs when the body is there.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>
{beside(__file__, "document.css")}
{style}
</style>
</head>
<body>
{body}
<script>
{beside(__file__, "document.js")}
{script}
</script>
</body>
</html>
"""


def theme_button() -> str:
    """The switch between the light, the dark and the system's own colours."""
    return '<button type="button" class="theme" id="theme" title="light, dark, or as the system (t)">◐</button>'
