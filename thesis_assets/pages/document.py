"""One self-contained HTML file: its frame, its common look, and text that never becomes markup.

Belongs here: what every page shares. Does not belong here: what a page is about.
"""

import html
from pathlib import Path

import orjson

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The browser itself then refuses whatever would leave the file."""


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
