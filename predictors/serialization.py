"""Predictors as folders: ``predictor.json``, ``arrays.npz``, ``texts/NAME.json`` and one folder per child."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.model_errors import PredictorFileError

FORMAT = "nassearch-predictor"
VERSION = 1

_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass
class Record:
    """Everything that makes up a predictor, in types that need no pickle.

    Attributes:
        values: JSON values.
        arrays: Numeric arrays by name.
        texts: JSON texts of libraries with a format of their own (XGBoost).
        children: Records of the predictors inside.
    """

    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    children: dict[str, Record] = field(default_factory=dict)


def write_record(record: Record, path: str | os.PathLike[str]) -> None:
    """Write a record as a folder; an existing saved predictor is replaced, anything else is left alone.

    The folder is written beside its place and moved there, so that a crash leaves the old one or the new one.

    Raises:
        PredictorFileError: ``path`` is a file, or a folder that holds something else.
    """
    target = Path(path)
    if target.exists() and not _replaceable(target):
        raise PredictorFileError(
            f"cannot save a predictor to {str(target)!r}: it exists and is not a saved predictor; "
            "give the path of a new folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh = scratch / "new"
        _write(record, fresh)
        if target.exists():
            target.rename(scratch / "old")
        fresh.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replaceable(target: Path) -> bool:
    if not target.is_dir():
        return False
    return not any(target.iterdir()) or (target / "predictor.json").is_file()


def _write(record: Record, folder: Path) -> None:
    folder.mkdir()
    for name in (*record.texts, *record.children):
        if not _SAFE_NAME.fullmatch(name):
            raise PredictorFileError(f"{name!r} cannot name a part of a saved predictor")
    np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **record.arrays)
    if record.texts:
        (folder / "texts").mkdir()
    for name, text in record.texts.items():
        (folder / "texts" / f"{name}.json").write_text(text, encoding="utf-8")
    for name, child in record.children.items():
        _write(child, folder / name)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "texts": sorted(record.texts),
        "children": sorted(record.children),
        "values": record.values,
    }
    (folder / "predictor.json").write_text(json.dumps(header, indent=1, allow_nan=False), encoding="utf-8")


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read what `write_record` wrote.

    Raises:
        PredictorFileError: Missing, damaged, not ours, or written by a newer version.
    """
    folder = Path(path)
    header_file = folder / "predictor.json"
    if not header_file.is_file():
        raise PredictorFileError(
            f"no predictor in {str(folder)!r}: expected a folder with a predictor.json, as save(path) writes"
        )
    try:
        header = json.loads(header_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictorFileError(f"{str(header_file)!r} is damaged ({error}); fit and save it again") from error
    _check_header(header, header_file)
    names = [*header["texts"], *header["children"]]
    if not all(isinstance(n, str) and _SAFE_NAME.fullmatch(n) for n in names):
        raise PredictorFileError(f"{str(header_file)!r} names parts outside its folder; it is not ours")
    try:
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        texts = {n: (folder / "texts" / f"{n}.json").read_text(encoding="utf-8") for n in header["texts"]}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise PredictorFileError(
            f"the predictor in {str(folder)!r} is damaged ({error}); fit and save it again"
        ) from error
    children = {n: read_record(folder / n) for n in header["children"]}
    return Record(values=header["values"], arrays=arrays, texts=texts, children=children)


def _check_header(header: Any, file: Path) -> None:
    if not isinstance(header, Mapping) or header.get("format") != FORMAT:
        raise PredictorFileError(f"{str(file)!r} is not a predictor of ours (no format {FORMAT!r})")
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise PredictorFileError(
            f"{str(file)!r} has format version {version!r}; this installation reads up to {VERSION}: upgrade it"
        )
    shape = {"texts": list, "children": list, "values": dict}
    wrong = [k for k, kind in shape.items() if not isinstance(header.get(k), kind)]
    if wrong:
        raise PredictorFileError(f"{str(file)!r} is damaged ({', '.join(wrong)}); fit and save it again")
