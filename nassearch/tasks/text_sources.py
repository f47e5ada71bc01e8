"""Texts for language models: files, folders, data sets of the hub, and one or several domains of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import DataError
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from nassearch.tasks.options import TaskRequest

Documents = dict[str, list[str]]
"""Texts of ``train`` and, where there are some, of ``search`` and ``report``."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
LAYOUT = "a .txt or .jsonl file, or a folder of such; files named train, valid and test are used as such"
_PARTS = {"train": ("train",), "search": ("valid", "validation", "dev", "val"), "report": ("test",)}
_EXTENSIONS = (".txt", ".jsonl")


def documents(request: TaskRequest) -> tuple[str, dict[str, Documents]]:
    """Return what to call the source, and the documents of each domain; of one named "" where none were asked for.

    Raises:
        DataError: There are no such texts, or domains that cannot be told apart.
    """
    kind = request.options["domains"]
    if kind == "none":
        origin, found = _undivided(request)
        return origin, {"": found}
    path = request.path(request.argument.removeprefix("text:"))
    if not path.is_dir():
        raise DataError(f"domains={kind} needs a folder of texts, which {path} is not; give one, or leave domains= out")
    column = request.options["text"]
    entries = sorted(e for e in path.iterdir() if not e.name.startswith("."))
    if kind == "files":
        named = [(f.stem, f) for f in entries if f.suffix.lower() in _EXTENSIONS]
    else:
        named = [(f.name, f) for f in entries if f.is_dir()]
    names = [name for name, _ in named]
    faults = [
        f"{f}: a domain cannot be called {n!r}; use letters, digits, '_' and '-'"
        for n, f in named
        if not _NAME.fullmatch(n)
    ]
    faults += [f"{path} has two domains {n!r}; rename one" for n in sorted({n for n in names if names.count(n) > 1})]
    if len(named) < 2:
        what = ".txt or .jsonl files" if kind == "files" else "folders with texts"
        faults.append(f"{path} has {len(named)} {what}; domains={kind} needs two at least, one for each domain")
    if faults:
        raise DataError(faults)
    return str(path), {n: {"train": _read(f, column)} if kind == "files" else _of_folder(f, column) for n, f in named}


def _undivided(request: TaskRequest) -> tuple[str, Documents]:
    from nassearch.tasks.hub import PREFIX, is_saved, load_hub, load_saved

    argument, column = request.argument, request.options["text"]
    if argument.startswith(PREFIX):
        name, _, config = argument.removeprefix(PREFIX).partition(":")
        parts = load_hub(name, config, request.options["revision"], "files: causal-lm:text:FILE_OR_DIR")
        return argument, _of_parts(argument, parts, column)
    path = request.path(argument.removeprefix("text:"))
    if not path.exists():
        raise DataError(f"the text {path} does not exist; give {LAYOUT}")
    if path.is_file():
        return str(path), {"train": _read(path, column)}
    if is_saved(path):
        return str(path), _of_parts(str(path), load_saved(path), column)
    return str(path), _of_folder(path, column)


def _of_folder(path: Path, column: str) -> Documents:
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in _EXTENSIONS and not f.name.startswith("."))
    if not files:
        raise DataError(f"the folder {path} has no texts; give {LAYOUT}")
    by_part: dict[str, list[Path]] = {"train": [], "search": [], "report": []}
    for file in files:
        part = next((name for name, stems in _PARTS.items() if file.stem.lower() in stems), "train")
        by_part[part].append(file)
    if not by_part["train"]:  # the validation text is then divided
        by_part["train"], by_part["search"] = by_part["search"] or by_part["report"], []
        if by_part["train"] == by_part["report"]:
            by_part["report"] = []
    read = {name: [text for file in found for text in _read(file, column)] for name, found in by_part.items()}
    return {name: texts for name, texts in read.items() if texts}


def _of_parts(origin: str, parts: Mapping[str, Any], column: str) -> Documents:
    found = {name: next((s for s in stems if s in parts), None) for name, stems in _PARTS.items()}
    found["train"] = found["train"] or next(iter(parts))
    texts = {}
    for name, part in found.items():
        if part is None or (name != "train" and part == found["train"]):
            continue
        if column not in parts[part].features:
            known = parts[part].features
            raise DataError(
                f"{origin} has no column {column!r}{did_you_mean(column, known)}; its columns: {', '.join(known)}; "
                "name one by text="
            )
        texts[name] = [str(text) for text in parts[part][column] if text]
    return texts


def _read(path: Path, column: str) -> list[str]:
    """Return the documents of a file: the whole of a .txt, each line of a .jsonl.

    Raises:
        DataError: It cannot be read, is empty, or is of another kind.
    """
    if path.suffix.lower() not in _EXTENSIONS:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'!r}; give {LAYOUT}")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not content.strip():
        raise DataError(f"{path} is empty; remove it or fill it with text")
    if path.suffix.lower() == ".txt":
        return [content]
    texts = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is no JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            raise DataError(f"{path}, line {number} has no text in {column!r}; name the column by text=")
        texts.append(row[column])
    return texts
