from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nassearch.errors import RunFolderError
from nassearch.store import Outcome, Retry, Store, stored_space
from search_spaces import Gene, SearchSpace

SPACE = SearchSpace("s", [Gene("a", [1, 2, 3]), Gene("b", [1, 2])])


def _store(folder: Path) -> Store:
    return Store(folder / "evaluations.sqlite", SPACE, create=True)


def _outcome(id_: int, **changes: object) -> Outcome:
    fields = {
        "values": {"top1": 90.5, "macs_m": 0.1 + 0.2},
        "std": {"latency_ms": 0.25},
        "measured": {"top1": "search-split"},
        "host": "here",
        "device": {"latency_ms": {"setting": "cpu"}},
        "started": 1.5,
        "wall_s": 0.25,
        "attempts": 2,
        **changes,
    }
    return Outcome(id_, "ok", **fields)  # type: ignore[arg-type]


def test_what_is_appended_is_read_back_exactly(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        proposals = store.propose(np.array([[0, 1], [2, 0]]), seed=3, origin="linas", predicted=[{"top1": 80.0}, {}])
        assert [p.id for p in proposals] == [1, 2]
        store.append(_outcome(2))
        store.append(_outcome(1, values={"top1": float("nan")}))
        store.append_final(2, {"latency_ms": 1.0}, {"top1": 88.0}, {})
        store.set_meta("bounds", {"x": 1})
    with Store(tmp_path / "evaluations.sqlite", SPACE) as store:
        assert store.proposals() == {p.id: p for p in proposals}
        assert list(store.outcomes()) == [2, 1]  # in the order of finishing
        assert store.outcomes()[2] == _outcome(2)
        assert np.isnan(store.outcomes()[1].values["top1"])
        assert store.finals() == {2: ({"latency_ms": 1.0}, {"top1": 88.0})}
        assert store.events() == [("propose", 0), ("evaluate", 2), ("evaluate", 1), ("final", 2)]
        assert store.meta("bounds") == {"x": 1}
        (again,) = store.propose(np.array([[1, 1]]), seed=3, origin="linas")
        assert (again.id, again.batch) == (3, 1)
    assert stored_space(tmp_path / "evaluations.sqlite") == SPACE


def test_an_evaluation_is_logged_once_and_only_of_a_proposal(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.propose(np.array([[0, 1]]), seed=0, origin="random")
        store.append(_outcome(1))
        with pytest.raises(sqlite3.IntegrityError):
            store.append(_outcome(1))
        assert store.events() == [("propose", 0), ("evaluate", 1)]  # the failed append left nothing


def test_retries_are_appended_beside_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.sqlite"
    with _store(tmp_path) as store:
        store.propose(np.array([[0, 1], [2, 0], [1, 0]]), seed=0, origin="random")
        bad = Outcome(2, "failed", error="out of memory")
        for outcome in (bad, Outcome(1, "failed"), _outcome(3)):
            store.append(outcome)
        assert store.retries() == []
        assert store.retry([2, 1]).ids == (1, 2)
        store.append_retried(_outcome(2))
        with pytest.raises(sqlite3.IntegrityError):
            store.append_retried(_outcome(2))
        with pytest.raises(sqlite3.IntegrityError):
            store.append_retried(_outcome(3))  # nobody asked
    with Store(path, SPACE, read_only=True) as store:
        assert store.retries() == [Retry(1, (1, 2), {2: _outcome(2)})]
        assert store.first_outcomes()[2] == bad
        assert list(store.outcomes()) == [2, 1, 3]
        assert store.outcomes()[2] == _outcome(2)
        assert store.events()[-2:] == [("retry", 1), ("retried", 2)]


def test_a_store_of_the_first_format_is_read_and_gone_on_with(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.propose(np.array([[0, 1]]), seed=0, origin="random")
        store.append(Outcome(1, "failed"))
    path = tmp_path / "evaluations.sqlite"
    db = sqlite3.connect(path)
    db.executescript("DROP TABLE retried; DROP TABLE retries; PRAGMA user_version = 1;")
    db.close()
    before = path.read_bytes()
    with Store(path, SPACE, read_only=True) as store:
        assert store.outcomes()[1].status == "failed"
    assert path.read_bytes() == before
    with Store(path, SPACE) as store:
        store.retry([1])
        store.append_retried(_outcome(1))
    with Store(path, SPACE, read_only=True) as store:
        assert store.outcomes() == {1: _outcome(1)}


def test_a_store_of_another_space_is_refused(tmp_path: Path) -> None:
    _store(tmp_path).close()
    other = SearchSpace("t", SPACE.genes)
    with pytest.raises(RunFolderError, match=r"belongs to search space 's'.*this run has 't'"):
        Store(tmp_path / "evaluations.sqlite", other)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(bytes(data))


def _foreign(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("hello, this is a text file"), "no SQLite file"),
        (_truncate, "damaged"),
        (_scramble, "damaged"),
        (_foreign, "no store of nassearch"),
        (lambda p: p.unlink(), "does not exist"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, damage: object, message: str) -> None:
    with _store(tmp_path) as store:
        store.propose(np.zeros((50, 2), dtype=int), seed=0, origin="random")
    path = tmp_path / "evaluations.sqlite"
    damage(path)  # type: ignore[operator]
    with pytest.raises(RunFolderError, match=message):
        Store(path, SPACE)


def test_creating_over_a_store_is_refused(tmp_path: Path) -> None:
    _store(tmp_path).close()
    with pytest.raises(RunFolderError, match="exists already"):
        _store(tmp_path)


def test_a_read_only_store_cannot_be_written(tmp_path: Path) -> None:
    _store(tmp_path).close()
    with (
        Store(tmp_path / "evaluations.sqlite", SPACE, read_only=True) as store,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        store.set_meta("x", 1)
