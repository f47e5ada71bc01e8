"""One small finished run, made once and shared by the tests that read, copy or continue it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nassearch.cli import _run

Fails = Callable[..., str]
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


@pytest.fixture
def base(small_task: str) -> list[str]:
    return [
        *("run", "--space", "mobilenetv3-tiny", "--task", small_task, "-o", "top1:max", "-o", "macs_m:min"),
        *("--num-evals", "5", "--batch-size", "5", "--strategy", "random", "--out", "out"),
    ]


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must be refused; returns its message, on one line."""
    monkeypatch.chdir(tmp_path)

    def run(argv: list[str], *parts: str) -> str:
        before = _contents(tmp_path)
        assert _run(argv, debug=False) == 2
        out, error = capsys.readouterr()
        assert "Traceback" not in out + error
        assert _contents(tmp_path) == before, "something was written"
        message = " ".join(error.split())
        for part in parts:
            assert part in message
        return message

    return run


def _contents(folder: Path) -> dict[Path, bytes | None]:
    """Everything in a folder but the lock, and what SQLite keeps while a store is open."""
    temporary = (".lock", "evaluations.sqlite-shm", "evaluations.sqlite-wal")
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.name not in temporary}
