"""Tables that benchmarks append to, row by row, and resume from."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, or none where it does not exist."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, columns: Sequence[str], row: Sequence[Any]) -> None:
    """Append one row, with the header first where the table is new; on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(columns)
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def machine() -> str:
    """Return CPU model, cores and torch version in one cell."""
    from predictors import LatencySetting, describe_device

    identity = describe_device(LatencySetting.parse("cpu:eager"))
    return f"{identity.cpu}, {identity.usable_cores} cores, torch {identity.torch}"
