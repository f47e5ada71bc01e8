"""The folder of a supernet-quality report: its settings, and a CSV to which every trained network is appended."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nassearch.errors import RunFolderError
from nassearch.manifest import write_atomically, write_json
from nassearch.tasks.base import Direction

SETTINGS, ROWS, REPORT, PLOT = "gap-settings.json", "gap.csv", "gap.json", "gap.png"
TRAINED = "trained"
_FORMAT = 1
_SAME_NETWORKS = ("space_identity", "data_fingerprint", "recipe", "start", "evaluation")

Genotype = tuple[int, ...]


@dataclass(frozen=True)
class GapRow:
    """A network that was trained from scratch once.

    Attributes:
        architecture: Its number in the sample, from 1.
        seed: Of the training.
        genotype: Canonical choice indices.
        params_m: Parameters, millions.
        macs_m: Multiply-accumulates, millions.
        inherited: Metric -> value with the supernet's weights, on the search split.
        scratch: Metric -> value after training from scratch; empty where that failed.
        seconds: Duration of the training, without what an interruption made it do again.
        source: `TRAINED`, or the folder whose result it is.
        error: Why the training failed.
    """

    architecture: int
    seed: int
    genotype: Genotype
    params_m: float
    macs_m: float
    inherited: Mapping[str, float]
    scratch: Mapping[str, float]
    seconds: float
    source: str = TRAINED
    error: str = ""


@dataclass(frozen=True)
class GapSettings:
    """What decides the rows of a folder.

    Attributes:
        run: The run's folder.
        space: Name of the space.
        space_identity: Its identity.
        task: The task's specification.
        data_fingerprint: Its data.
        metrics: Metric of the task -> its better direction.
        metric: The one reported by default.
        supernet: Hash of the run's trained supernet.
        seed: Of the sample and of the first training.
        recipe: How a network is trained: settings that change weights, and the batch size.
        start: Which weights it starts from: ``kind`` and what they depend on.
        evaluation: How quality is evaluated.
    """

    run: str
    space: str
    space_identity: str
    task: str
    data_fingerprint: str
    metrics: Mapping[str, Direction]
    metric: str
    supernet: str
    seed: int
    recipe: Mapping[str, Any]
    start: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON data, as they are read back."""
        data: dict[str, Any] = json.loads(json.dumps({"format": _FORMAT, **vars(self)}))
        return data

    def differences(self, other: GapSettings, *, own: bool = False) -> list[str]:
        """Return what of another folder's settings gives other results from scratch, or, with ``own``, other rows."""
        names = (*_SAME_NETWORKS, "supernet", "seed") if own else _SAME_NETWORKS
        return _differences({n: self.to_json()[n] for n in names}, {n: other.to_json()[n] for n in names})


def _differences(mine: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines: list[str] = []
    for key in dict.fromkeys([*mine, *other]):
        a, b = mine.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key} {a!r}, there {b!r}")
    return lines


def read_settings(folder: Path) -> GapSettings:
    """Return the settings of a folder.

    Raises:
        RunFolderError: It has none, or they are damaged.
    """
    path = folder / SETTINGS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != _FORMAT:
            raise RunFolderError(f"{path} is of another version; this one reads format {_FORMAT}")
        return GapSettings(**data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunFolderError(
            f"{folder} holds no supernet-quality report ({path.name}: {error}); make one: nassearch gap RUN"
        ) from error


def find_folder(path: Path) -> Path:
    """Return the folder of a report: a path itself, or ``gap/`` in it where it is a run's.

    Raises:
        RunFolderError: There is none.
    """
    inside = path / "gap"
    folder = inside if not (path / SETTINGS).is_file() and (inside / SETTINGS).is_file() else path
    read_settings(folder)
    return folder


@dataclass
class GapFolder:
    """The rows of a folder, those on the disk and those to come.

    Attributes:
        path: The folder.
        settings: Its settings.
        rows: Those on the disk, by genotype and seed.
    """

    path: Path
    settings: GapSettings
    rows: dict[tuple[Genotype, int], GapRow] = field(default_factory=dict)

    @staticmethod
    def check(path: Path, settings: GapSettings) -> None:
        """Check that rows of these settings can be written to a folder; nothing is changed.

        Raises:
            RunFolderError: It holds something else, or rows of other settings.
        """
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"--out {path} is a file; give a folder")
        if (path / SETTINGS).is_file():
            if different := settings.differences(read_settings(path), own=True):
                listed = "".join(f"\n  - {line}" for line in different)
                raise RunFolderError(
                    f"the networks in {path} were made otherwise; choose another --out, or the same settings:{listed}"
                )
        elif path.is_dir() and [p for p in path.iterdir() if p.name != ".lock"]:
            raise RunFolderError(
                f"--out {path} is not empty and holds no supernet-quality report; choose another folder"
            )

    @classmethod
    def open(cls, path: Path, settings: GapSettings) -> GapFolder:
        """Begin an empty folder or go on with one, after `check`; a row that was torn at a crash is taken out.

        Raises:
            RunFolderError: Its rows are damaged.
        """
        write_json(path / SETTINGS, settings.to_json())
        rows = read_rows(path) if (path / ROWS).exists() else []
        folder = cls(path, settings, {(r.genotype, r.seed): r for r in rows})
        text = _line(_columns(settings)) + "".join(_line(folder._cells(r)) for r in rows)
        write_atomically(path / ROWS, text)
        return folder

    def append(self, row: GapRow) -> None:
        """Write a row to the disk."""
        with (self.path / ROWS).open("a", encoding="utf-8", newline="") as file:
            file.write(_line(self._cells(row)))
            file.flush()
            os.fsync(file.fileno())
        self.rows[row.genotype, row.seed] = row

    def _cells(self, row: GapRow) -> list[Any]:
        values = [part.get(m, math.nan) for part in (row.inherited, row.scratch) for m in self.settings.metrics]
        return [
            row.architecture, row.seed, " ".join(map(str, row.genotype)), repr(row.params_m), repr(row.macs_m),
            *("" if math.isnan(v) else repr(v) for v in values), f"{row.seconds:.2f}", row.source, row.error,
        ]  # fmt: skip


def _columns(settings: GapSettings) -> list[str]:
    quality = [f"{part}_{m}" for part in ("inherited", "scratch") for m in settings.metrics]
    return ["architecture", "seed", "genotype", "params_m", "macs_m", *quality, "seconds", "source", "error"]


def _line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def read_rows(folder: Path) -> list[GapRow]:
    """Return the rows of a folder in their order; a torn last one is left out.

    Raises:
        RunFolderError: The file is damaged or has other columns.
    """
    path, settings = folder / ROWS, read_settings(folder)
    columns = _columns(settings)
    try:
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error
    lines = list(csv.reader(whole.splitlines()))
    if not lines or lines[0] != columns:
        raise RunFolderError(f"{path} does not have the columns {', '.join(columns)}; use another folder")
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            c = dict(zip(columns, cells, strict=True))
            inherited, scratch = (
                {m: float(c[f"{part}_{m}"]) for m in settings.metrics if c[f"{part}_{m}"]}
                for part in ("inherited", "scratch")
            )
            genotype = tuple(int(i) for i in c["genotype"].split())
            rows.append(
                GapRow(
                    int(c["architecture"]), int(c["seed"]), genotype, float(c["params_m"]), float(c["macs_m"]),
                    inherited, scratch, float(c["seconds"]), c["source"], c["error"],
                )
            )  # fmt: skip
        except ValueError as error:
            raise RunFolderError(f"{path}, line {number} is damaged ({error}); delete that line") from error
    return rows
