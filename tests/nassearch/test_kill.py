"""``kill -9`` of the driver at any moment: nothing finished is lost or done twice, and the search stays the same."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BUDGET = 60
_PATIENCE_S = 240.0  # for one step of one process, on a machine that is busy with other things


def _start(folder: Path, task: str, *flags: str) -> subprocess.Popen[bytes]:
    """Start the run in a folder, or go on with it where there is one."""
    command = [
        *("run", "--space", "mobilenetv3-tiny", "--task", task, "-o", "top1:max", "-o", "macs_m:min"),
        *("--num-evals", str(BUDGET), "--seed", "3", "--out", str(folder), "--batch-size", "8", *flags),
        *("--set", "train.batch_size=32", "--set", "train.settings.epochs=3"),
        *("--set", "train.settings.checkpoint_every=1"),
    ]
    if folder.exists():
        command = ["run", "--resume", str(folder)]
    log = folder.with_name(f"{folder.name}.log").open("ab")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "nassearch", *command],
        stdout=log,
        stderr=log,
        env=environment,
        cwd=folder.parent,
        # A test suite started in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read the store beside the process that writes it."""
    path = folder / "evaluations.sqlite"
    if not path.exists():
        return []
    db = sqlite3.connect(path.as_uri() + "?mode=ro", uri=True, timeout=10)
    try:
        return db.execute(sql).fetchall()
    except sqlite3.OperationalError:  # it is being made
        return []
    finally:
        db.close()


def _evaluated(folder: Path) -> int:
    rows = _query(folder, "SELECT COUNT(*) FROM evaluations")
    return int(rows[0][0]) if rows else 0


def _trained_steps(folder: Path) -> int:
    try:
        return int(json.loads((folder / "training" / "training.json").read_text())["step"])
    except (OSError, ValueError):
        return 0


def _wait(process: subprocess.Popen[bytes], moment: Callable[[], bool], log: Path) -> None:
    """Wait for a moment; a process that ends before it came is a failure of the test."""
    deadline = time.monotonic() + _PATIENCE_S
    while not moment():
        assert process.poll() is None, f"ended with {process.returncode} too early:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.003)


def _finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait(_PATIENCE_S) == 0, log.read_text()[-3000:]


def _facts(folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions."""
    proposals = _query(folder, "SELECT id, batch, seed, origin, genotype, predicted FROM proposals ORDER BY id")
    values = _query(folder, "SELECT id, status, vals, measured FROM evaluations ORDER BY id")
    finals = _query(folder, "SELECT id, vals, report FROM finals ORDER BY id")
    return {
        "proposals": proposals,
        "values": values,
        "finals": finals,
        "front.csv": (folder / "front.csv").read_text(),
        "front.json": json.loads((folder / "front.json").read_text()),
        "weights": [p.name for p in (folder / "supernet").glob("*.safetensors")],  # named by their checksum
    }


def test_a_run_killed_ten_times_equals_the_uninterrupted_one(tmp_path: Path, small_task: str) -> None:
    rng = np.random.default_rng(20)
    folder, log = tmp_path / "killed", tmp_path / "killed.log"
    new, saved = tmp_path / ".killed.new", folder / "supernet" / "supernet.json"
    steps, n_steps = sorted(rng.choice(np.arange(1, 11), 2, replace=False).tolist()), 12
    counts = [0, *sorted(rng.choice(np.arange(2, BUDGET - 5), 3, replace=False).tolist())]

    def trained(step: int) -> Callable[[], bool]:
        return lambda: _trained_steps(folder) >= step

    def searched(count: int) -> Callable[[], bool]:
        # A slow machine may be beyond the count already: then it is the next evaluation of this process.
        least = min(max(count, _evaluated(folder) + 1), BUDGET)
        return lambda: _evaluated(folder) >= least

    # Each with the longest random wait after it, in seconds.
    moments: list[tuple[Callable[[], Callable[[], bool]], float]] = [
        (lambda: lambda: new.exists() or folder.exists(), 0.01),
        *((lambda s=s: trained(s), 0.2) for s in steps),
        (lambda: saved.exists, 0.05),
        *((lambda c=c: searched(c), 0.1) for c in counts),
        (lambda: lambda: _evaluated(folder) >= BUDGET, 0.1),
        (lambda: (folder / "predictors").exists, 0.3),
    ]
    assert len(moments) == 10
    assert max(steps) < n_steps

    # The run without interruptions goes on beside all this.
    whole = _start(tmp_path / "whole", small_task)
    finished: dict[int, tuple[Any, ...]] = {}
    process = None
    try:
        for make, longest in moments:
            process = _start(folder, small_task)
            _wait(process, make(), log)
            time.sleep(float(rng.uniform(0, longest)))
            process.kill()
            assert process.wait(60) == -signal.SIGKILL, "it ended before it could be killed"
            now = {r[0]: r for r in _query(folder, "SELECT * FROM evaluations")}
            assert {i: now.get(i) for i in finished} == finished, "finished evaluations were lost or done again"
            finished = now
        process = _start(folder, small_task)
        _finish(process, log)
        _finish(whole, tmp_path / "whole.log")
    finally:
        for p in (whole, process):
            if p is not None and p.poll() is None:
                p.kill()

    now = {r[0]: r for r in _query(folder, "SELECT * FROM evaluations")}
    assert {i: now[i] for i in finished} == finished
    assert sorted(now) == list(range(1, BUDGET + 1))
    logged = [ref for (ref,) in _query(folder, "SELECT ref FROM log WHERE kind = 'evaluate'")]
    assert sorted(logged) == list(range(1, BUDGET + 1)), "each evaluation is logged once"
    assert _facts(folder) == _facts(tmp_path / "whole")
    leftovers = [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".partial", ".new")) or p == new]
    assert not leftovers
    assert not (folder / "training").exists()


def test_ctrl_c_ends_with_130_and_the_run_goes_on_afterwards(tmp_path: Path, small_task: str) -> None:
    folder, log = tmp_path / "run", tmp_path / "run.log"
    process = _start(folder, small_task, "--strategy", "random", "--export-format", "none")
    try:
        _wait(process, lambda: _evaluated(folder) >= 2, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in log.read_text()
        assert 2 <= _evaluated(folder) < BUDGET
        process = _start(folder, small_task)
        _finish(process, log)
    finally:
        if process.poll() is None:
            process.kill()
    assert _evaluated(folder) == BUDGET
