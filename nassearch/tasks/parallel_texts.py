"""Sentences and their translations in pairs of text files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from nassearch.errors import DataError

_PARTS = {"train": ("train",), "search": ("val", "valid", "dev"), "report": ("test_2016_flickr", "test")}
_FAULTS_SHOWN = 10


@dataclass(frozen=True)
class ParallelTexts:
    """Pairs of sentences before they are split: those of the validation set and then of the test set come last.

    Attributes:
        source: The sentences.
        target: The translation of each.
        n_search: Number of pairs in the source's own validation set.
        n_report: Number of pairs in its own test set.
    """

    source: list[str]
    target: list[str]
    n_search: int = 0
    n_report: int = 0

    @classmethod
    def joined(cls, parts: dict[str, tuple[list[str], list[str]]]) -> ParallelTexts:
        """Return the texts of ``train``, and of ``search`` and ``report`` where there are such parts."""
        present = [parts[name] for name in ("train", "search", "report") if name in parts]
        sizes = {name: len(part[0]) for name, part in parts.items()}
        return cls(
            [line for source, _ in present for line in source],
            [line for _, target in present for line in target],
            sizes.get("search", 0),
            sizes.get("report", 0),
        )


def read_folder(folder: Path, source: str, target: str) -> ParallelTexts:
    """Read ``train.LANGUAGE``, ``val.LANGUAGE`` and ``test_2016_flickr.LANGUAGE`` (or ``test``), as Multi30k has them.

    Args:
        folder: Where they are.
        source: Language to translate from: the end of its files' names.
        target: Language to translate to.

    Raises:
        DataError: Files are missing, have other numbers of lines, or empty lines; file and line are named.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one with train.{source}, train.{target}, val.… and test.…")
    if source == target:
        raise DataError(f"source and target are both {source!r}; give two languages, as in source=de,target=en")
    parts = {}
    for name, stems in _PARTS.items():
        languages = (source, target)
        stem = next((s for s in stems if any((folder / f"{s}.{end}").exists() for end in languages)), None)
        if stem is not None:
            parts[name] = read_pair(folder / f"{stem}.{source}", folder / f"{stem}.{target}")
    if "train" not in parts:
        there = sorted({f.suffix[1:] for f in folder.iterdir() if f.suffix}) or ["none"]
        raise DataError(
            f"{folder} has no train.{source} and train.{target}; file endings there: {', '.join(there)}; choose with "
            "source= and target="
        )
    return ParallelTexts.joined(parts)


def read_pair(source: Path, target: Path) -> tuple[list[str], list[str]]:
    """Return the sentences of a file and their translations in another, line by line.

    Raises:
        DataError: A file is missing or unreadable, the files have different numbers of lines, or lines are empty.
    """
    if absent := [str(path) for path in (source, target) if not path.is_file()]:
        raise DataError(
            f"{' and '.join(absent)}: no such file; a line of one language needs its translation in the same line of a "
            "file of the other"
        )
    first, second = _lines(source), _lines(target)
    if not first and not second:
        raise DataError(f"{source} and {target} are empty")
    if len(first) != len(second):
        longer = source if len(first) > len(second) else target
        at = min(len(first), len(second)) + 1
        raise DataError(
            f"{source} has {len(first)} lines, {target} {len(second)}: line {at} of {longer} has no translation; each "
            "line needs one"
        )
    check_lines(first, second, (str(source), str(target)))
    return first, second


def check_lines(source: list[str], target: list[str], names: tuple[str, str]) -> None:
    """Check that no line is empty.

    Raises:
        DataError: Some are; file and line are named.
    """
    faults = [
        f"{name}, line {number} is empty; remove the line from both files"
        for number, pair in enumerate(zip_longest(source, target, fillvalue=""), start=1)
        for name, line in zip(names, pair, strict=True)
        if not line.strip()
    ]
    if faults:
        more = [f"… and {len(faults) - _FAULTS_SHOWN} more empty lines"] if len(faults) > _FAULTS_SHOWN else []
        raise DataError(faults[:_FAULTS_SHOWN] + more)


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            # Not splitlines(): it also breaks at characters that stand within a sentence (U+0085, U+2028).
            return [line.rstrip("\r\n") for line in file]
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, about line {line}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
