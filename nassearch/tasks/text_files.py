"""Labelled texts in TSV, CSV, JSON-lines and Parquet files, and in data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nassearch.errors import DataError
from nassearch.tasks.hub import is_saved, load_parquet, load_saved
from search_spaces.errors import did_you_mean

EXTENSIONS = (".tsv", ".csv", ".jsonl", ".parquet")
_PARTS = {"train": ("train",), "search": ("dev", "validation", "valid", "val"), "report": ("test",)}
_LAYOUT = (
    "a .tsv, .csv, .jsonl or .parquet file, a folder with train, dev and test files of one of these kinds, or one that "
    "save_to_disk of 'datasets' wrote"
)
Row = tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """The columns that are read.

    Attributes:
        texts: Option -> column: ``sentence``, and ``sentence2`` for pairs.
        label: Column of the labels.
    """

    texts: Mapping[str, str]
    label: str

    @property
    def names(self) -> list[str]:
        """All columns; the label is the last."""
        return [*self.texts.values(), self.label]

    @property
    def options(self) -> str:
        """How to name other columns, for messages."""
        return " and ".join(f"{option}=" for option in (*self.texts, "label"))

    @property
    def default(self) -> bool:
        """Whether nothing was named: a table of two columns then needs no head."""
        return self.names == ["sentence", "label"]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts before they are split: those of the validation set and then of the test set come last.

    Attributes:
        rows: The text or texts, and the label as text.
        n_search: Number of texts in the source's own validation set.
        n_test: Number of texts in its own test set.
        names: The classes in the source's own order, where it states one.
        details: More for `describe`.
    """

    rows: list[Row]
    n_search: int = 0
    n_test: int = 0
    names: list[str] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def read_texts(path: Path, columns: Columns) -> LabelledTexts:
    """Read a file, or the train, dev and test files of a folder.

    Raises:
        DataError: Files or columns are missing, empty or malformed; the message names file and line.
    """
    if not path.exists():
        raise DataError(f"the data {path} do not exist; give {_LAYOUT}")
    if path.is_file():
        if path.suffix.lower() == ".parquet":
            return from_parts(str(path), load_parquet({"train": path}), columns)
        return LabelledTexts(_read(path, columns))
    if is_saved(path):
        return from_parts(str(path), load_saved(path), columns)
    files = {name: found for name, stems in _PARTS.items() if (found := _find(path, stems))}
    if "train" not in files:
        raise DataError(f"the folder {path} has no train file (train.tsv, .csv, .jsonl or .parquet); give {_LAYOUT}")
    kinds = {file.suffix for file in files.values()}
    if ".parquet" in kinds:
        if len(kinds) > 1:
            raise DataError(f"{path} has files of the kinds {', '.join(sorted(kinds))}; use Parquet for all or none")
        standard = {"train": "train", "search": "validation", "report": "test"}
        return from_parts(str(path), load_parquet({standard[k]: f for k, f in files.items()}), columns)
    read = {name: _read(files[name], columns) if name in files else [] for name in _PARTS}
    return _joined(str(path), read["train"], read["search"], read["report"])


def from_parts(origin: str, parts: Mapping[str, Any], columns: Columns) -> LabelledTexts:
    """Read the parts of a data set of the library `datasets`.

    Parts without labels (-1, or none) are left out. Where the test set is, the validation set takes its place.

    Raises:
        DataError: Columns are missing, or hold something else.
    """
    train_name = "train" if "train" in parts else next(iter(parts))
    held_out = {}
    for kind in ("search", "report"):
        stems = _PARTS[kind]
        name = next((n for s in stems for n in parts if n == s and n != train_name), None)
        held_out[kind] = name or next((n for s in stems for n in parts if n.startswith(f"{s}_")), None)
    train = _rows_of(origin, train_name, parts[train_name], columns)
    if train is None:
        raise DataError(f"{origin}: {train_name} has no labels in column {columns.label!r}; name another by label=")
    read = {k: (n and _rows_of(origin, n, parts[n], columns)) or [] for k, n in held_out.items()}
    if not read["report"]:
        read, held_out = {"search": [], "report": read["search"]}, {"search": None, "report": held_out["search"]}
    names = getattr(parts[train_name].features[columns.label], "names", None)
    used = {"train": train_name} | {k: n for k, n in held_out.items() if n and read[k]}
    return _joined(origin, train, read["search"], read["report"], names and list(names), {"parts": used})


def _joined(
    origin: str,
    train: list[Row],
    search: list[Row],
    report: list[Row],
    names: list[str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> LabelledTexts:
    unseen = sorted({row[-1] for row in (*search, *report)} - {row[-1] for row in train})
    if unseen:
        raise DataError(
            f"{origin}: the dev or test file has labels that the train file lacks ({', '.join(unseen[:10])}); "
            "use files of the same classes"
        )
    return LabelledTexts([*train, *search, *report], len(search), len(report), names, details or {})


def _rows_of(origin: str, part: str, dataset: Any, columns: Columns) -> list[Row] | None:
    """Return texts and labels of a part, or None where its labels are hidden."""
    for column in columns.names:
        if column not in dataset.features:
            raise DataError(
                f"{origin} has no column {column!r}{did_you_mean(column, dataset.features)}; its columns: "
                f"{', '.join(dataset.features)}; name them by {columns.options}"
            )
    *texts, labels = (list(dataset[column]) for column in columns.names)
    if not labels:
        raise DataError(
            f"{origin}: {part} is empty; fill it, or leave it out (of a set on the hub: save_to_disk the others and "
            "give that folder): it is then taken from the others"
        )
    hidden = [label is None or label == -1 for label in labels]
    if all(hidden):
        return None
    names = getattr(dataset.features[columns.label], "names", None)
    rows = []
    for number, (*values, label) in enumerate(zip(*texts, labels, strict=True)):
        where = f"{origin}, {part}, row {number}"
        if hidden[number] or isinstance(label, bool) or not isinstance(label, str | int):
            raise DataError(f"{where}: the label is {label!r}; text or a whole number is needed")
        rows.append(_checked(where, values, names[label] if names and isinstance(label, int) else str(label), columns))
    return rows


def _checked(where: str, texts: Iterable[Any], label: str, columns: Columns) -> Row:
    for column, text in zip(columns.texts.values(), texts, strict=True):
        if not isinstance(text, str):
            raise DataError(f"{where}: {column!r} must be text, not {type(text).__name__}")
        if not text.strip():
            raise DataError(f"{where}: {column!r} is empty; remove the row or fill it in")
    return (*texts, label)


def _find(folder: Path, stems: tuple[str, ...]) -> Path | None:
    found = [f for stem in stems for end in EXTENSIONS if (f := folder / f"{stem}{end}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} has {' and '.join(f.name for f in found)}; keep one of them")
    return found[0] if found else None


def _read(path: Path, columns: Columns) -> list[Row]:
    """Return texts and labels of one file."""
    if path.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'!r}; allowed are {', '.join(EXTENSIONS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list((_json_rows if path.suffix.lower() == ".jsonl" else _table_rows)(path, file, columns))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise DataError(f"{path} has no texts; it needs lines with a text and its label")
    return rows


def _json_rows(path: Path, lines: Iterable[str], columns: Columns) -> Iterable[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where} is no JSON: {error}") from None
        if not isinstance(row, dict) or any(name not in row for name in columns.names):
            listed = " or ".join(map(repr, columns.names))
            raise DataError(f"{where} lacks {listed}; name others by {columns.options}")
        *texts, label = (row[name] for name in columns.names)
        if not isinstance(label, str | int):
            raise DataError(f"{where}: {columns.label!r} must be text or a whole number")
        yield _checked(where, texts, str(label), columns)


def _table_rows(path: Path, lines: Iterable[str], columns: Columns) -> Iterable[Row]:
    tabs = path.suffix.lower() == ".tsv"  # quotes in them are part of the text
    reader = csv.reader(lines, "excel-tab", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    first = next(reader, [])
    named = all(name in first for name in columns.names)
    if not named and (len(first) != 2 or not columns.default):
        listed = " and ".join(map(repr, columns.names))
        raise DataError(
            f"{path} has no columns {listed}, but {', '.join(map(repr, first[:10])) or 'nothing'}; "
            f"name its columns by {columns.options}, or leave out the head of a file of text and label"
        )
    at = [first.index(name) for name in columns.names] if named else [0, 1]
    if not named:
        yield _checked(f"{path}, line 1", first[:1], first[1], columns)
    for row in reader:
        if not row:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) != len(first):
            raise DataError(f"{where} has {len(row)} columns, the first line {len(first)}")
        *texts, label = (row[i] for i in at)
        yield _checked(where, texts, label, columns)
