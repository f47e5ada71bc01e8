"""Small pieces of HTML; every text that comes in is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LONGEST = 300  # characters of one value: lists of a thousand class names say nothing to a reader


class Markup(str):
    """HTML that is ready: it is not escaped again."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Return a value as HTML text; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[object]) -> Markup:
    """Return parts one after the other, those that are no `Markup` escaped."""
    return Markup("".join(escape(p) for p in parts))


def tag(name: str, *content: object, **attributes: str) -> Markup:
    """Return an element; ``class_`` gives the attribute ``class``, and ``data_x`` ``data-x``."""
    words = "".join(f' {k.rstrip("_").replace("_", "-")}="{html.escape(v)}"' for k, v in attributes.items())
    return Markup(f"<{name}{words}>{join(content)}</{name}>")


def section(key: str, title: str, *content: object) -> Markup:
    """Return a section with a heading that can be linked to."""
    return tag("section", tag("h2", title), *content, id=key)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, sortable: bool = False) -> Markup:
    """Return a table in a box that scrolls sideways by itself where the screen is narrow."""
    rows = list(rows)
    body = join(tag("tr", *(_cell(c) for c in row)) for row in rows)
    numeric = [any(isinstance(row[i], Number) for row in rows) for i in range(len(head))]
    columns = join(
        tag("th", h, scope="col", **({"class_": "number"} if n else {})) for h, n in zip(head, numeric, strict=True)
    )
    kind = "sortable" if sortable else "plain"
    return tag("div", tag("table", tag("thead", tag("tr", columns)), tag("tbody", body), class_=kind), class_="scroll")


def _cell(value: object) -> Markup:
    if isinstance(value, Number):
        return tag("td", value.text, class_="number", data_value=repr(value.value))
    return tag("td", value)


class Number:
    """A number in a table: shown as its text, sorted by its value."""

    def __init__(self, value: float, text: str) -> None:
        self.value, self.text = value, text


def facts(pairs: Mapping[str, Any]) -> Markup:
    """Return names and values as a list; empty values are left out, nested ones shown on one line."""
    return tag(
        "dl",
        *(
            join([tag("dt", name), tag("dd", plain(value))])
            for name, value in pairs.items()
            if value is not None and value != {} and value != [] and value != ""
        ),
    )


def plain(value: Any) -> str:
    """Return a JSON value as text for people; numbers without useless digits, long ones cut."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, Mapping):
        text = ", ".join(f"{k}: {plain(v)}" for k, v in value.items() if v is not None)
    elif isinstance(value, list | tuple):
        text = ", ".join(plain(v) for v in value)
    else:
        text = str(value)
    return text if len(text) <= _LONGEST or isinstance(value, str) else text[: _LONGEST - 1] + "…"


def script_data(key: str, data: Any) -> Markup:
    """Return JSON data for the page's script; nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(f'<script type="application/json" id="{html.escape(key)}">{text}</script>')
