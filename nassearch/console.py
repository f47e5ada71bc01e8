"""Where people read what happens."""

from __future__ import annotations

from typing import TypeAlias

import rich.console

Console: TypeAlias = rich.console.Console


def make_console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """Return a console; a quiet one prints nothing. Widths that no terminal gives default to 100."""
    console = rich.console.Console(quiet=quiet, stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    return console
