"""Problems by name: ``NAME:PATH[,option=value…]``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nassearch.bench.problem import TabularProblem
from nassearch.bench.tables import Table
from nassearch.errors import ConfigError, DataError
from search_spaces.errors import did_you_mean

Reader = Callable[..., Table]

_READERS: dict[str, Reader] = {}


def register_reader(name: str) -> Callable[[Reader], Reader]:
    """Register a function that reads a table; its keyword-only arguments are the options, all of them texts.

    Args:
        name: The name in specifications.

    Raises:
        ValueError: The name is taken.
    """

    def register(reader: Reader) -> Reader:
        if name in _READERS:
            raise ValueError(f"a reader named {name!r} is registered already; choose another name")
        _READERS[name] = reader
        return reader

    return register


def list_readers() -> dict[str, str]:
    """Return the readers: name -> the first line of its documentation."""
    return {name: (reader.__doc__ or "").strip().partition("\n")[0] for name, reader in sorted(_READERS.items())}


def read_table(text: str) -> Table:
    """Read the table of a specification ``NAME:PATH[,option=value…]``.

    Raises:
        ConfigError: Unknown reader or option; `DataError` where file or folder is missing or malformed.
    """
    name, colon, rest = text.partition(":")
    if name not in _READERS:
        listed = ", ".join(f"{n}:PATH" for n in sorted(_READERS))
        raise ConfigError(f"unknown problem {text!r}{did_you_mean(name, _READERS)}; available: {listed}")
    place, *words = rest.split(",")
    if not colon or not place:
        raise ConfigError(f"problem {text!r} names no file or folder; write {name}:PATH")
    reader = _READERS[name]
    options = _options(text, words, [p.name for p in _keywords(reader)])
    missing = [p.name for p in _keywords(reader) if p.default is p.empty and p.name not in options]
    if missing:
        raise ConfigError(f"problem {text!r} needs {', '.join(f'{m}=…' for m in missing)}")
    path = Path(place).expanduser()
    if not path.exists():
        raise DataError(f"problem {text!r}: {path} does not exist")
    return reader(path, **options)


def _keywords(reader: Reader) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _options(text: str, words: Sequence[str], allowed: Sequence[str]) -> Mapping[str, str]:
    options: dict[str, str] = {}
    faults = []
    for word in words:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value:
            faults.append(f"problem {text!r}: {word!r} is no option; write option=value")
        elif key not in allowed:
            listed = ", ".join(allowed) or "none"
            faults.append(f"problem {text!r} has no option {key!r}{did_you_mean(key, allowed)}; its options: {listed}")
        elif key in options:
            faults.append(f"problem {text!r} gives {key!r} twice")
        else:
            options[key] = value
    if faults:
        raise ConfigError(faults)
    return options


def make_problem(
    text: str, *, objectives: Sequence[str] | None = None, constraints: Sequence[str] | None = None
) -> TabularProblem:
    """Make a problem from ``NAME:PATH[,option=value…]``.

    Args:
        text: For example ``nas-bench-201:DIR,device=raspi4``; `list_readers` has the names.
        objectives: Instead of the table's.
        constraints: Instead of the table's.

    Raises:
        ConfigError: Unknown name, option or metric; a missing or malformed file or folder.
    """
    return TabularProblem(read_table(text), objectives, constraints)
