"""The state of a run: one append-only SQLite file with every proposal and every evaluation.

The store *is* the state. A run is resumed by replaying the log in order: what was proposed is not derived
again, what was evaluated is told again, and what was in flight is evaluated again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import RunFolderError
from nassearch.store_schema import APPLICATION_ID, FORMAT, OUTCOME, RETRIES, SCHEMA
from search_spaces import Rows, SearchSpace

REUSED = "reused from "  # begins how a value came about that an earlier run evaluated


@dataclass(frozen=True)
class Outcome:
    """What came of evaluating one architecture.

    Attributes:
        id: The proposal's id.
        status: ``"ok"`` or ``"failed"``.
        values: Metric -> value in the metric's unit; empty when failed.
        std: Metric -> spread of the measurement (interquartile range for latencies), where there is one.
        measured: Metric -> how the value came about: ``"search-split"``, ``"analytic"``, ``"measured"``, or
            ``"reused from RUN"``: taken over from an earlier run.
        error: Why it failed, in one line.
        host: Name of the machine that evaluated it.
        device: Setting and identity of the device of each measured metric.
        started: Unix time in seconds.
        wall_s: Duration in seconds, retries included.
        attempts: How often it was tried.
    """

    id: int
    status: str
    values: Mapping[str, float] = field(default_factory=dict)
    std: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    host: str = ""
    device: Mapping[str, Any] = field(default_factory=dict)
    started: float = 0.0
    wall_s: float = 0.0
    attempts: int = 1


@dataclass(frozen=True)
class Proposal:
    """One architecture that a strategy asked for: its row in the space and what was predicted of it."""

    id: int
    batch: int
    origin: str
    row: tuple[int, ...]
    predicted: Mapping[str, float]


@dataclass(frozen=True)
class Retry:
    """A round in which failed evaluations are done again.

    Attributes:
        number: Counts up from 1.
        ids: The proposals, ascending.
        outcomes: What came of them so far, by id.
    """

    number: int
    ids: tuple[int, ...]
    outcomes: Mapping[int, Outcome]


class Store:
    """Appends to and reads from ``evaluations.sqlite``; every append is on the disk when it returns.

    Args:
        path: The file.
        space: The space of the run; a store of another space is refused.
        create: Make a new file. The file must not exist then, and must otherwise.
        read_only: Never write.

    Raises:
        RunFolderError: The file is missing, exists, is truncated or damaged, is no store of ours, or belongs
            to another space.
    """

    def __init__(self, path: Path, space: SearchSpace, *, create: bool = False, read_only: bool = False) -> None:
        self.path, self.space, self._read_only = path, space, read_only
        if create and path.exists():
            raise RunFolderError(f"{path} exists already; resume that run or choose another folder")
        if not create and not path.is_file():
            raise RunFolderError(f"{path} does not exist; a run folder has this file, give the folder of a run")
        try:
            self._connect(create, read_only)
        except sqlite3.DatabaseError as error:
            raise RunFolderError(
                f"{path} is damaged or no store of nassearch ({error}); restore it from a copy or start a new run"
            ) from error

    def _connect(self, create: bool, read_only: bool) -> None:
        if not create:
            _check_header(self.path)
        if read_only:
            self._db = _open_to_read(self.path)
        else:
            uri = self.path.absolute().as_uri() + f"?mode={'rwc' if create else 'rw'}"
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
        if not read_only:
            # FULL: an append has reached the disk (fsync) before it returns, power cuts included.
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        if create:
            with self._transaction():
                self._make_tables(SCHEMA + RETRIES)
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._put_meta("space", self.space.to_json())
                self._put_meta("space_identity", self.space.identity)
            return
        (check,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise sqlite3.DatabaseError(check)
        (ours,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if ours != APPLICATION_ID:
            raise RunFolderError(f"{self.path} is a database, but no store of nassearch; give the folder of a run")
        if version > FORMAT:
            raise RunFolderError(f"{self.path} has format {version}, this version reads up to {FORMAT}; upgrade")
        identity = self.meta("space_identity")
        if identity != self.space.identity:
            name = (self.meta("space") or {}).get("name")
            raise RunFolderError(
                f"{self.path} belongs to search space {name!r} ({identity}), this run has {self.space.name!r} "
                f"({self.space.identity}); runs never mix spaces: use another folder"
            )
        self._has_retries = version > 1
        if version == 1 and not read_only:
            with self._transaction():
                self._make_tables(RETRIES)

    def _make_tables(self, statements: str) -> None:
        for statement in statements.strip().rstrip(";").split(";\n"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={FORMAT}")
        self._has_retries = True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards.

        The last writer folds the write-ahead log in, so that a finished run is one file that can be read anywhere.
        """
        if not self._read_only:
            with suppress(sqlite3.OperationalError):  # somebody reads at this moment: the log stays, nothing is lost
                self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- facts about the run -------------------------------------------------------------------------

    def _put_meta(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def set_meta(self, key: str, value: Any) -> None:
        """Write one JSON fact about the run."""
        with self._transaction():
            self._put_meta(key, value)

    def meta(self, key: str) -> Any:
        """Return a fact that `set_meta` wrote, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    # -- appending -----------------------------------------------------------------------------------

    def _log(self, kind: str, ref: int) -> None:
        self._db.execute("INSERT INTO log (kind, ref, at) VALUES (?, ?, ?)", (kind, ref, time.time()))

    def propose(
        self, G: NDArray[Any], *, seed: int, origin: str, predicted: Sequence[Mapping[str, float]] | None = None
    ) -> list[Proposal]:
        """Log a batch of proposals before any of them is evaluated.

        Args:
            G: Rows of the space, int ``[n, n_genes]``.
            seed: Seed of the search.
            origin: What proposed them: the strategy's name, …
            predicted: For each row, metric -> predicted value, where the strategy predicts.

        Returns:
            The proposals with their ids, which count up from 1 in the order of asking.
        """
        with self._transaction():
            (first,) = self._db.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM proposals").fetchone()
            (batch,) = self._db.execute("SELECT COALESCE(MAX(batch), -1) + 1 FROM proposals").fetchone()
            proposals = []
            for i, row in enumerate(np.asarray(G).tolist()):
                said = dict(predicted[i]) if predicted else {}
                proposals.append(Proposal(first + i, batch, origin, tuple(row), said))
                self._db.execute(
                    "INSERT INTO proposals VALUES (?, ?, ?, ?, ?, ?)",
                    (first + i, batch, seed, origin, json.dumps(row), json.dumps(said)),
                )
            self._log("propose", batch)
        return proposals

    def append(self, outcome: Outcome) -> None:
        """Log one finished evaluation; its proposal must have been logged, and not evaluated yet."""
        with self._transaction():
            self._db.execute("INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _to_row(outcome))
            self._log("evaluate", outcome.id)

    def retry(self, ids: Sequence[int]) -> Retry:
        """Log a round of retries before any of them is evaluated.

        Args:
            ids: Proposals whose evaluation failed.
        """
        chosen = tuple(sorted(ids))
        with self._transaction():
            (number,) = self._db.execute("SELECT COALESCE(MAX(round), 0) + 1 FROM retries").fetchone()
            self._db.executemany("INSERT INTO retries VALUES (?, ?)", [(number, i) for i in chosen])
            self._log("retry", number)
        return Retry(number, chosen, {})

    def append_retried(self, outcome: Outcome) -> None:
        """Log one finished evaluation of the last round of retries; the failed one stays in the log."""
        with self._transaction():
            (number,) = self._db.execute("SELECT MAX(round) FROM retries WHERE id = ?", (outcome.id,)).fetchone()
            self._db.execute(
                "INSERT INTO retried VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (number, *_to_row(outcome))
            )
            self._log("retried", outcome.id)

    def append_final(
        self, id: int, values: Mapping[str, float], report: Mapping[str, float], device: Mapping[str, Any]
    ) -> None:
        """Log the second look at a front member: costs measured again, quality on the report split."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO finals VALUES (?, ?, ?, ?, ?)",
                (id, json.dumps(dict(values)), json.dumps(dict(report)), json.dumps(dict(device)), time.time()),
            )
            self._log("final", id)

    # -- reading -------------------------------------------------------------------------------------

    def events(self) -> list[tuple[str, int]]:
        """Return the log in order.

        ``("propose", batch)``, ``("evaluate", id)``, ``("retry", round)``, ``("retried", id)`` or ``("final", id)``.
        """
        return [(kind, ref) for kind, ref in self._db.execute("SELECT kind, ref FROM log ORDER BY seq")]

    def proposals(self) -> dict[int, Proposal]:
        """Return all proposals by id, in the order of asking."""
        rows = self._db.execute("SELECT id, batch, origin, genotype, predicted FROM proposals ORDER BY id")
        return {
            id_: Proposal(id_, batch, origin, tuple(json.loads(genotype)), json.loads(predicted or "{}"))
            for id_, batch, origin, genotype, predicted in rows
        }

    def outcomes(self) -> dict[int, Outcome]:
        """Return the last finished evaluation of each id, in the order in which they finished first."""
        outcomes = self.first_outcomes()
        for retry in self.retries():
            outcomes |= retry.outcomes
        return outcomes

    def first_outcomes(self) -> dict[int, Outcome]:
        """Return all finished evaluations by id, in the order in which they finished, without retries."""
        columns = ", ".join(f"e.{name}" for name in OUTCOME.split(", "))
        rows = self._db.execute(
            f"SELECT {columns} FROM evaluations e JOIN log ON log.kind = 'evaluate' AND log.ref = e.id "  # noqa: S608
            "ORDER BY log.seq"
        )
        return {row[0]: _from_row(row) for row in rows}

    def retries(self) -> list[Retry]:
        """Return the rounds of retries in order."""
        if not self._has_retries:
            return []
        ids: dict[int, list[int]] = {}
        for number, id_ in self._db.execute("SELECT round, id FROM retries ORDER BY round, id"):
            ids.setdefault(number, []).append(id_)
        found: dict[int, dict[int, Outcome]] = {number: {} for number in ids}
        for number, *row in self._db.execute(f"SELECT round, {OUTCOME} FROM retried ORDER BY rowid"):  # noqa: S608
            found[number][row[0]] = _from_row(row)
        return [Retry(number, tuple(chosen), found[number]) for number, chosen in ids.items()]

    def finals(self) -> dict[int, tuple[dict[str, float], dict[str, float]]]:
        """Return id -> (re-measured values, values on the report split)."""
        rows = self._db.execute("SELECT id, vals, report FROM finals ORDER BY id")
        return {id_: (json.loads(values), json.loads(report)) for id_, values, report in rows}

    def rows(self, proposals: Sequence[Proposal]) -> Rows:
        """Return the rows of proposals, int64 ``[n, n_genes]``."""
        return np.array([p.row for p in proposals], dtype=np.int64).reshape(len(proposals), len(self.space.genes))


def _to_row(outcome: Outcome) -> tuple[Any, ...]:
    o, dumps = outcome, json.dumps
    said = (dumps(dict(o.values)), dumps(dict(o.std)), dumps(dict(o.measured)))
    return (o.id, o.status, *said, o.error, o.host, dumps(dict(o.device)), o.started, o.wall_s, o.attempts)


def _from_row(row: Sequence[Any]) -> Outcome:
    loads = json.loads
    return Outcome(row[0], row[1], loads(row[2]), loads(row[3]), loads(row[4]), row[5], row[6], loads(row[7]), *row[8:])


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(16)
    if header != b"SQLite format 3\x00":
        what = "empty" if not header else "no SQLite file"
        raise RunFolderError(f"{path} is {what}, so no store of nassearch; give the folder of a run")


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a store without writing, also in a folder that may not be written to."""
    uri = path.absolute().as_uri() + "?mode=ro"
    if not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
        uri += "&immutable=1"  # else SQLite wants to make files beside it
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)


def stored_space(path: Path) -> SearchSpace:
    """Return the space that a store was made for.

    Raises:
        RunFolderError: The file is missing, damaged or no store of ours.
    """
    if not path.is_file():
        raise RunFolderError(f"{path} does not exist; a run folder has this file, give the folder of a run")
    _check_header(path)
    try:
        db = _open_to_read(path)
        try:
            row = db.execute("SELECT value FROM meta WHERE key = 'space'").fetchone()
        finally:
            db.close()
        return SearchSpace.from_json(json.loads(row[0]))
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{path} is damaged or no store of nassearch ({error}); restore it from a copy or start a new run"
        ) from error
