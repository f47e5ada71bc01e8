"""Labelled texts in TSV, CSV and JSON-lines files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nassearch.errors import DataError

EXTENSIONS = (".tsv", ".csv", ".jsonl")
_PARTS = {"train": ("train",), "search": ("dev", "validation", "valid", "val"), "report": ("test",)}
_LAYOUT = "a .tsv, .csv or .jsonl file, or a folder with train, dev and test files of one of these kinds"


@dataclass(frozen=True)
class LabelledTexts:
    """Texts before they are split: those of the validation set and then of the test set come last.

    Attributes:
        texts: The texts.
        labels: The label of each, as text.
        n_search: Number of texts in the source's own validation set.
        n_test: Number of texts in its own test set.
    """

    texts: list[str]
    labels: list[str]
    n_search: int = 0
    n_test: int = 0


def read_texts(path: Path, sentence: str, label: str) -> LabelledTexts:
    """Read a file, or the train, dev and test files of a folder.

    Args:
        path: The file or folder.
        sentence: Column of the texts.
        label: Column of the labels.

    Raises:
        DataError: Files or columns are missing, empty or malformed; the message names file and line.
    """
    if not path.exists():
        raise DataError(f"the data {path} do not exist; give {_LAYOUT}")
    if path.is_file():
        rows = _read(path, sentence, label)
        return LabelledTexts([t for t, _ in rows], [c for _, c in rows])
    parts = {name: _find(path, stems) for name, stems in _PARTS.items()}
    if parts["train"] is None:
        raise DataError(f"the folder {path} has no train file (train.tsv, .csv or .jsonl); give {_LAYOUT}")
    read = {name: _read(file, sentence, label) if file else [] for name, file in parts.items()}
    rows = [*read["train"], *read["search"], *read["report"]]
    unseen = sorted({c for _, c in rows} - {c for _, c in read["train"]})
    if unseen:
        raise DataError(
            f"{path}: the dev or test file has labels that the train file lacks ({', '.join(unseen[:10])}); "
            "use files of the same classes"
        )
    return LabelledTexts([t for t, _ in rows], [c for _, c in rows], len(read["search"]), len(read["report"]))


def _find(folder: Path, stems: tuple[str, ...]) -> Path | None:
    found = [f for stem in stems for end in EXTENSIONS if (f := folder / f"{stem}{end}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} has {' and '.join(f.name for f in found)}; keep one of them")
    return found[0] if found else None


def _read(path: Path, sentence: str, label: str) -> list[tuple[str, str]]:
    """Return texts and labels of one file."""
    if path.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'!r}; allowed are {', '.join(EXTENSIONS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                rows = list(_json_rows(path, file, sentence, label))
            else:
                rows = list(_table_rows(path, file, sentence, label))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise DataError(f"{path} has no texts; it needs lines with a text and its label")
    return rows


def _json_rows(path: Path, lines: Iterable[str], sentence: str, label: str) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is no JSON: {error}") from None
        if not isinstance(row, dict) or sentence not in row or label not in row:
            raise DataError(
                f"{path}, line {number} lacks {sentence!r} or {label!r}; name others by sentence= and label="
            )
        if not isinstance(row[sentence], str) or not isinstance(row[label], str | int):
            raise DataError(f"{path}, line {number}: {sentence!r} must be text and {label!r} text or a whole number")
        yield row[sentence], str(row[label])


def _table_rows(path: Path, lines: Iterable[str], sentence: str, label: str) -> Iterable[tuple[str, str]]:
    tabs = path.suffix.lower() == ".tsv"  # quotes in them are part of the text
    reader = csv.reader(lines, "excel-tab", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    first = next(reader, [])
    named = sentence in first and label in first
    if not named and (len(first) != 2 or (sentence, label) != ("sentence", "label")):
        raise DataError(
            f"{path} has no columns {sentence!r} and {label!r}, but {', '.join(map(repr, first[:10])) or 'nothing'}; "
            "name its columns by sentence= and label=, or leave out the head of a file of text and label"
        )
    at, of = (first.index(sentence), first.index(label)) if named else (0, 1)
    if not named:
        yield first[0], first[1]
    for row in reader:
        if not row:
            continue
        if len(row) != len(first):
            raise DataError(f"{path}, line {reader.line_num} has {len(row)} columns, the first line {len(first)}")
        yield row[at], row[of]
