"""One small finished run, made once and shared by the tests that read, copy or continue it."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

TASK = "digits:train=128,calibration=32,search=60,report=60,draws=1"


@pytest.fixture(scope="session")
def small_task() -> str:
    """The default task with few digits."""
    return TASK


@pytest.fixture(scope="session")
def small_settings() -> dict[str, Any]:
    """Settings of a run that takes seconds: 8 training steps, 12 evaluations, short measurements."""
    return {
        "space": "mobilenetv3-tiny",
        "task": TASK,
        "objectives": ["top1:max", "latency_ms:min"],
        "constraints": ["macs_m <= 80% of largest"],
        "num_evals": 12,
        "batch_size": 4,
        "strategy": "nsga2",
        "latency": ["cpu:eager,budget_ms=20"],
        "train": {"batch_size": 32, "settings": {"epochs": 2}},
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_settings: dict[str, Any]) -> Path:
    """The folder of a finished run. Never write to it: `run_folder` is a copy."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "finished-run.lock").open("w") as lock:  # one of several test processes makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = shared / "finished-run"
        if not (shared / "finished-run.done").exists():
            import nassearch
            from nassearch.console import make_console

            shutil.rmtree(folder, ignore_errors=True)
            nassearch.run(
                small_settings | {"out": str(folder)}, console=make_console(quiet=True), command="nassearch run …"
            )
            (shared / "finished-run.done").touch()
    return folder


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
