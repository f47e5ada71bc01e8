"""Reading a run folder: records, front, and the selection of a subnet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nassearch.config import make_config
from nassearch.errors import ConfigError, RunFolderError
from nassearch.runs import Record, Run
from nassearch.store import Outcome, Store
from search_spaces import get_space

SPACE = get_space("mobilenetv3-tiny")
NAN = float("nan")

# top1, latency_ms, macs_m; the knee is in the corner at (90, 2).
VALUES = [
    (60.0, 1.0, 1.0),
    (90.0, 2.0, 2.0),
    (94.0, 9.0, 3.0),
    (70.0, 5.0, 2.5),  # dominated
    (95.0, 10.0, 7.0),
    (99.0, 0.5, 9.0),  # best of all, and infeasible: macs_m
    (NAN, NAN, NAN),  # failed
]


def _run(
    folder: Path,
    values: Sequence[tuple[float, float, float]] = VALUES,
    objectives: Sequence[str] = ("top1:max", "latency_ms:min"),
    constraints: Sequence[str] = ("macs_m <= 8",),
) -> Run:
    folder.mkdir()
    config = make_config(
        {"space": SPACE.name, "task": "digits", "objectives": list(objectives), "constraints": list(constraints)}
    )
    (folder / "config.yaml").write_text(config.to_yaml())
    with Store(folder / "evaluations.sqlite", SPACE, create=True) as store:
        store.set_meta("bounds", {"macs_m": {"largest": 10.0, "smallest": 0.5}})
        if values:
            store.propose(SPACE.sample(len(values), np.random.default_rng(0)), seed=0, origin="random")
        for i, row in enumerate(values, start=1):
            if np.isnan(row[0]):
                store.append(Outcome(i, "failed", error="RuntimeError: no"))
            else:
                store.append(Outcome(i, "ok", dict(zip(("top1", "latency_ms", "macs_m"), row, strict=True))))
    return Run(folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return _run(tmp_path / "run")


def test_records_tell_front_dominated_infeasible_and_failed_apart(run: Run) -> None:
    assert [r.id for r in run.records] == [1, 2, 3, 4, 5, 6, 7]
    assert [r.id for r in run.front] == [5, 3, 2, 1]  # from the best first objective on
    assert [r.feasible for r in run.records] == [True] * 5 + [False] * 2
    assert run.records[6].status == "failed"
    assert run.records[6].error == "RuntimeError: no"
    assert all(SPACE.encode([r.arch]).tolist() == [list(r.row)] for r in run.records)


@pytest.mark.parametrize(
    ("which", "id_"),
    [
        ("knee", 2),
        ("best-top1", 5),
        ("best-latency_ms", 1),
        ("best-macs_m", 1),  # no objective: less of a cost is better
        ("fastest", 1),
        ("4", 4),  # an id need not be of the front
        ("6", 6),  # nor feasible
        ("latency_ms <= 9.5", 3),
        ("latency_ms<=2", 2),
        ("macs_m <= 25% of largest", 2),
        ("top1 >= 94.5", 5),
    ],
)
def test_select(run: Run, which: str, id_: int) -> None:
    chosen = run.select(which)
    assert isinstance(chosen, Record)
    assert chosen.id == id_


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("kne", r"unknown subnet 'kne'; did you mean 'knee'\?; give knee, fastest, best-top1, best-latency_ms"),
        ("", "unknown subnet ''"),
        ("7", r"no successful evaluation has id 7; the front has \[5, 3, 2, 1\]"),
        ("99", "no successful evaluation has id 99"),
        ("-1", "unknown subnet '-1'"),
        ("best-tpo1", r"metric 'tpo1' was not evaluated; did you mean 'top1'\?"),
        ("best-", "metric '' was not evaluated"),
        ("latency_ms <= 0.9", "no front member meets 'latency_ms <= 0.9'; latency_ms of the front goes from 1 to 10"),
        ("latency_ms@pi <= 3", "metric 'latency_ms@pi' was not evaluated in this run"),
        ("latency_ms = 3", "networks that meet '=' exactly hardly exist"),
        ("latency_ms <= fast", "'fast' does not start with a number"),
    ],
)
def test_select_says_what_there_is(run: Run, which: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.select(which)


def test_fastest_needs_a_latency(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", [(1.0, 1.0, 1.0)], objectives=["top1:max"])
    assert run.select("fastest").id == 1
    object.__setattr__(run.records[0], "values", {"top1": 1.0})
    with pytest.raises(ConfigError, match="no latency was measured in this run"):
        run.select("fastest")


def test_quality_without_an_objective_is_better_when_greater(tmp_path: Path) -> None:
    assert _run(tmp_path / "run", objectives=["latency_ms:min", "macs_m:min"]).select("best-top1").id == 1
    run = _run(tmp_path / "three", objectives=["latency_ms:min", "macs_m:max"])
    best = max(run.front, key=lambda r: r.values["top1"])
    assert run.select("best-top1").id == best.id


@pytest.mark.parametrize("values", [[], [(NAN, NAN, NAN)], [(99.0, 0.5, 9.0)]], ids=["none", "failed", "infeasible"])
def test_an_empty_front_is_said_to_be_empty(tmp_path: Path, values: list[tuple[float, float, float]]) -> None:
    run = _run(tmp_path / "run", values)
    assert run.front == []
    with pytest.raises(ConfigError, match="has no feasible evaluation yet, so no subnet can be chosen"):
        run.select("knee")


def test_a_run_that_is_still_training_can_be_read(tmp_path: Path) -> None:
    # A limit relative to a quality is known only once the weights are there.
    run = _run(tmp_path / "run", [], constraints=["top1 >= 90% of largest"])
    assert run.records == run.front == []
    assert run.n_proposed == 0


def test_reading_never_changes_a_run(run: Run) -> None:
    def contents() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in run.folder.iterdir() if not p.name.endswith(("-shm", "-wal"))}

    before = contents()
    assert run.records
    assert run.select("knee")
    assert run.bounds
    assert contents() == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a folder"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"has no config\.yaml"):
        Run(tmp_path)


def test_a_finished_run_gives_back_task_and_supernet(finished: Path) -> None:
    run = Run(finished)
    assert run.task().fingerprint == run.manifest["data_fingerprint"]
    assert run.supernet().space.identity == run.manifest["space_identity"] == run.space.identity
