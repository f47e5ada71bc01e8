"""Warm starts that do not fit end with exit 2, a message that says what to do, and nothing written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nassearch.store import Store
from search_spaces import Gene, SearchSpace

Fails = Callable[..., str]


@pytest.fixture
def warm(finished: Path) -> list[str]:
    return [
        *("run", "--warm-start", str(finished), "-o", "top1:max", "-o", "latency_ms@b:min", "--latency"),
        *("b=cpu:eager,batch=2,budget_ms=10", "--num-evals", "4", "--strategy", "random", "--out", "out"),
    ]


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--reuse", "top2"], ["--reuse 'top2' is no metric of this run", "did you mean 'top1'", "accuracy"]),
        (["--reuse", "params_m"], ["--reuse params_m", "computed and costs nothing"]),
        (["--reuse", "latency_ms@b"], ["has no 'latency_ms@b'; it has", "latency_ms"]),
        (["--reuse", "accuracy", "--seed", "5"], ["seed 0", "seed 5", "give the same --task and --seed"]),
        (["--reuse", "accuracy", "--train", "sandwich"], ["other supernet weights", "leave --supernet"]),
        (["--reuse", "top1", "--set", "evaluation.calibration_size=32"], ["evaluated with", "calibration_size=32"]),
        (["--warm-start", "nowhere"], ["--warm-start nowhere: nowhere is not a folder"]),
    ],
    ids=lambda x: "_".join(x)[:40] if isinstance(x, list) and x and x[0].startswith("-") else "",
)
def test_a_warm_start_that_does_not_fit_is_refused(
    warm: list[str], fails: Fails, flags: list[str], parts: list[str]
) -> None:
    fails(warm + flags, *parts)


def test_a_warm_start_from_another_space_is_refused(warm: list[str], fails: Fails, run_folder: Path) -> None:
    for path in run_folder.glob("evaluations.sqlite*"):
        path.unlink()
    Store(run_folder / "evaluations.sqlite", SearchSpace("other", [Gene("a", [1, 2])]), create=True).close()
    warm[2] = str(run_folder)
    fails(warm, "it is of space 'other'", "'mobilenetv3-tiny'", "a warm start needs the same space")


def test_costs_of_another_setting_or_device_are_not_reused(fails: Fails, run_folder: Path) -> None:
    base = ["run", "--warm-start", str(run_folder), "-o", "top1:max", "-o", "latency_ms:min", "--reuse", "latency_ms"]
    base += ["--num-evals", "4", "--out", "out"]
    message = fails([*base, "--latency", "cpu:eager,batch=4,budget_ms=20"], "was measured as", "batch=1", "batch=4")
    assert "the new run measures it as" in message
    db = sqlite3.connect(run_folder / "evaluations.sqlite")
    ((device,),) = db.execute("SELECT device FROM evaluations WHERE id = 1").fetchall()
    theirs = json.loads(device)
    theirs["latency_ms"]["device"]["fingerprint"] = "of another board"
    db.execute("UPDATE evaluations SET device = ? WHERE id = 1", (json.dumps(theirs),))
    db.commit()
    db.close()
    fails([*base, "--latency", "cpu:eager,budget_ms=20"], "of another board", "figures of different devices never mix")


def test_a_warm_start_from_what_is_no_run_is_refused(base: list[str], fails: Fails, tmp_path: Path) -> None:
    fails([*base, "--reuse", "accuracy"], "--reuse accuracy takes values from an earlier run", "--warm-start RUN")
    fails([*base, "--warm-start", "nowhere", "--seed", "0"], "nowhere")
    fails(["run", "--warm-start", "nowhere", "-o", "top1:max"], "--warm-start nowhere has no config.yaml")
    (tmp_path / "run.yaml").write_text("warm_start: old\n")
    fails([*base, "--config", "run.yaml"], "warm_start", "list")


def test_a_warm_start_from_a_run_without_evaluations_is_refused(
    warm: list[str], fails: Fails, run_folder: Path
) -> None:
    warm[2] = str(run_folder)
    with sqlite3.connect(run_folder / "evaluations.sqlite") as db:
        for table in ("evaluations", "finals"):
            db.execute(f"DELETE FROM {table}")
    db.close()
    fails(warm, "it has no successful evaluation yet")


def test_resume_takes_no_warm_start(fails: Fails, run_folder: Path) -> None:
    fails(["run", "--resume", str(run_folder), "--warm-start", str(run_folder)], "--resume goes on with", "warm_start")
