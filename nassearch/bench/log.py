"""The out folder of a comparison: its settings, and a CSV to which every finished trial is appended."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nassearch.bench.trial import Point
from nassearch.errors import RunFolderError
from nassearch.manifest import write_atomically, write_json

SETTINGS, TRIALS = "bench.json", "trials.csv"
_FORMAT = 1
_FIELDS = [f.name for f in fields(Point)]
_READ: dict[str, Any] = {
    "problem": str, "strategy": str, "seed": int, "batch": int, "evaluations": int, "asked": int, "score": float,
    "best": lambda text: float(text) if text else math.nan, "front": int, "own_s": float, "cpu_s": float,
    "done": lambda text: {"0": False, "1": True}[text],
}  # fmt: skip


@dataclass(frozen=True)
class BenchSettings:
    """What decides the results of a comparison.

    Attributes:
        budget: Distinct evaluations of a trial.
        batch_size: Proposals a batch.
        problems: Name -> `TabularProblem.describe`.
        strategies: Strategy with its options -> all its options, defaults included.
    """

    budget: int
    batch_size: int
    problems: Mapping[str, Mapping[str, Any]]
    strategies: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON data."""
        return {
            "format": _FORMAT,
            "budget": self.budget,
            "batch_size": self.batch_size,
            "problems": dict(self.problems),
            "strategies": dict(self.strategies),
        }

    @classmethod
    def from_json(cls, data: Any, where: Path) -> BenchSettings:
        """Rebuild settings from `to_json`.

        Raises:
            RunFolderError: The data is not of that form.
        """
        try:
            if data["format"] != _FORMAT:
                raise RunFolderError(f"{where} has format {data['format']!r}; this version reads {_FORMAT}")
            return cls(int(data["budget"]), int(data["batch_size"]), dict(data["problems"]), dict(data["strategies"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"{where} is not the settings of a comparison ({error!r}); use another --out"
            ) from error

    def joined(self, new: BenchSettings, where: Path) -> BenchSettings:
        """Return these settings with the problems and strategies of others.

        Raises:
            RunFolderError: What both know differs, so that their trials cannot be compared.
        """
        ours, theirs = json.loads(json.dumps(self.to_json())), json.loads(json.dumps(new.to_json()))
        faults = [f"{k} {ours[k]}, now {theirs[k]}" for k in ("budget", "batch_size") if ours[k] != theirs[k]]
        for kind, one in (("problems", "problem"), ("strategies", "strategy")):
            for name in ours[kind].keys() & theirs[kind].keys():
                old, now = ours[kind][name], theirs[kind][name]
                faults += [
                    f"{one} {name!r} with {key} {old.get(key)!r}, now {now.get(key)!r}"
                    for key in dict.fromkeys([*old, *now])
                    if old.get(key) != now.get(key)
                ]
        if faults:
            raise RunFolderError(
                f"the trials in {where} were made otherwise: {'; '.join(sorted(faults))}. Use another --out, or the "
                "same settings"
            )
        problems = {**self.problems, **new.problems}
        return BenchSettings(self.budget, self.batch_size, problems, {**self.strategies, **new.strategies})


class BenchLog:
    """Trials in a folder; one that is not finished is run again.

    Args:
        folder: The folder, made if it does not exist.
        settings: Settings of the trials to come.

    Raises:
        RunFolderError: The folder holds trials of other settings, something else, or is in use.
    """

    def __init__(self, folder: Path, settings: BenchSettings) -> None:
        self.folder, self.path = folder, folder / TRIALS
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"{folder} is a file; give a folder as --out")
        known = folder / SETTINGS
        if not known.exists() and self.path.exists():
            raise RunFolderError(f"{folder} has {TRIALS} but no {SETTINGS}; use another --out")
        old = read_settings(folder) if known.exists() else None
        self.settings = settings if old is None else old.joined(settings, folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.points = self._recovered()
        write_json(known, self.settings.to_json())

    def _recovered(self) -> list[Point]:
        """Return the finished trials, and take the others out of the file."""
        if not self.path.exists():
            write_atomically(self.path, ",".join(_FIELDS) + "\n")
            return []
        points = read_points(self.path)
        write_atomically(self.path, ",".join(_FIELDS) + "\n" + "".join(_line(p) for p in points))
        return points

    def append(self, points: Sequence[Point]) -> None:
        """Write the points of a finished trial to the disk."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write("".join(_line(p) for p in points))
            file.flush()
            os.fsync(file.fileno())
        self.points += points


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder.

    Raises:
        RunFolderError: One does already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(f"another process is writing to {folder}; wait for it or use another --out") from error
        yield


def read_settings(folder: Path) -> BenchSettings:
    """Return the settings of a folder of trials.

    Raises:
        RunFolderError: It has none, or they are damaged.
    """
    path = folder / SETTINGS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"cannot read {path}: {error}; give a folder that `nassearch bench` wrote") from error
    return BenchSettings.from_json(data, path)


def read_points(path: Path) -> list[Point]:
    """Return the points of all finished trials, in the order of the file; a torn or unfinished trial is left out.

    Raises:
        RunFolderError: The file has other columns.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not lines or lines[0].strip().split(",") != _FIELDS:
        raise RunFolderError(f"{path} does not have the columns {', '.join(_FIELDS)}; use another --out")
    trials: dict[tuple[str, str, int], list[Point]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.endswith("\n"):
            break  # the process ended while it wrote
        cells = next(csv.reader([line]))
        try:
            point = Point(**{f: _READ[f](cell) for f, cell in zip(_FIELDS, cells, strict=True)})
        except (ValueError, KeyError) as error:
            raise RunFolderError(f"{path}, line {number} is damaged ({error}); delete it with its trial") from error
        trials.setdefault(point.key, []).append(point)
    return [p for trial in trials.values() if trial[-1].done for p in trial]


def _line(point: Point) -> str:
    best = "" if math.isnan(point.best) else repr(point.best)
    cells = [
        point.problem, point.strategy, point.seed, point.batch, point.evaluations, point.asked, f"{point.score:.9g}",
        best, point.front, f"{point.own_s:.3f}", f"{point.cpu_s:.3f}", int(point.done),
    ]  # fmt: skip
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
