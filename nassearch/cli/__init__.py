"""The command line: a thin skin over the Python API."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nassearch.errors import NassearchError

_PACKAGES = ("nassearch", "supernets", "predictors", "search_spaces")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failure, 2 bad input, 130 interrupted.

    Args:
        argv: Arguments without the program's name. Default: those of this process. ``--debug`` anywhere
            before a ``--`` shows tracebacks.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:
        arguments.remove("--debug")
    else:
        warnings.showwarning = _print_warning
    sys.exit(_run(arguments, debug))


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Print our own warnings for people; those of libraries are for developers and come with ``--debug``."""
    root = Path(__file__).parents[2]
    if category is UserWarning and any(Path(filename).is_relative_to(root / name) for name in _PACKAGES):
        print(f"Warning: {message}", file=sys.stderr)


def _run(arguments: list[str], debug: bool) -> int:
    from nassearch.cli.app import app

    try:
        app(args=arguments, prog_name="nassearch")
    except SystemExit as exit_:  # usage errors and the end of a command: the library has printed what there is
        return exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
    except Exception as error:
        code = _exit_code(error)
        if debug or code is None:
            raise
        print(f"Error: {error}", file=sys.stderr)
        return code
    return 0


def _exit_code(error: Exception) -> int | None:
    """Return the exit code of an error with a message for people, None for one that nobody foresaw."""
    if isinstance(error, NassearchError):
        return error.exit_code
    if isinstance(error, OSError):  # a full disk, a missing permission: the message names the file
        return 1
    # The other packages do not import our errors: theirs are ValueErrors of bad input.
    package = type(error).__module__.split(".")[0]
    return 2 if isinstance(error, ValueError) and package in ("search_spaces", "supernets", "predictors") else None
