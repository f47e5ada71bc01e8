"""An HTML page that needs no network and no other file: styles, figures and scripts are written in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from nassearch.reports.markup import Markup, join, script_data, tag

# The page may run what is written in it and reach nothing else, whatever a script would like to load.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def html_page(title: str, body: Sequence[Markup], figures: Mapping[str, Any], signature: str) -> str:
    """Return a page as one HTML text.

    Args:
        title: Title of the window.
        body: The sections.
        figures: Id of an element in the body -> data and layout for plotly.js.
        signature: Text of the last line.
    """
    from plotly.offline import get_plotlyjs

    head = [
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Markup(f"<style>{_file('report.css')}</style>"),
    ]
    scripts = [script_data("figures", figures)]
    if figures:
        scripts += [Markup(f"<script>{get_plotlyjs()}</script>")]
    scripts += [Markup(f"<script>{_file('report.js')}</script>")]
    page = tag("main", *body), tag("footer", signature), join(scripts)
    return f'<!doctype html>\n<html lang="en">\n<head>{join(head)}</head>\n<body>{join(page)}</body>\n</html>\n'


def _file(name: str) -> str:
    return resources.files("nassearch.reports").joinpath(name).read_text(encoding="utf-8")
