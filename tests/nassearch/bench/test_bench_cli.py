"""The command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nassearch.cli import _run


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: object, code: int = 0) -> tuple[str, str]:
        found = _run(["bench", *(str(a) for a in argv)], debug=False)
        out, error = capsys.readouterr()
        assert found == code, out + error
        return out, error

    return run


def test_tables_and_files(call: Any, table_file: Path, tmp_path: Path) -> None:
    argv = ["-p", f"table:{table_file}", "-s", "random", "-s", "nsga2", "--seeds", 2, "--budget", 20, "--out"]
    out, _ = call(*argv, tmp_path / "b")
    assert "4/4" in out
    assert "top1:max, latency_ms:min" in out
    assert (tmp_path / "b" / "report.html").is_file()
    again, _ = call(*argv, tmp_path / "b", "--checkpoint", 10)
    assert "4/4" not in again
    assert "random" in again


def test_json_is_all_that_goes_to_standard_output(call: Any, table_file: Path, tmp_path: Path) -> None:
    out, error = call(
        "-p", f"table:{table_file}", "-s", "random", "--seeds", 1, "--budget", 20, "--out", tmp_path / "b", "--json",
        "-o", "top1:max", "-c", "latency_ms <= 12",
    )  # fmt: skip
    data = json.loads(out)
    assert data["problems"]["mine"]["constraints"] == ["latency_ms <= 12"]
    assert data["comparison"][-1]["regret"] is not None
    assert "1/1" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-s", "random"], "no problem given"),
        (["-p", "tabel:x", "-s", "random"], "did you mean 'table'"),
        (["-p", "table:/nowhere.npz", "-s", "randm"], "/nowhere.npz does not exist"),
        (["-p", "ofa-mobilenetv3:/nowhere", "-s", "random"], "/nowhere does not exist"),
        (["-p", "TABLE", "-o", "top5:max", "-s", "random"], "no metric 'top5'; did you mean 'top1'"),
        (["-p", "TABLE", "-s", "randm"], "did you mean 'random'"),
        (["-p", "TABLE", "--workers", "0"], "workers must be at least 1"),
    ],
)
def test_bad_input(call: Any, table_file: Path, tmp_path: Path, argv: list[str], message: str) -> None:
    words = [f"table:{table_file}" if a == "TABLE" else a for a in argv]
    _, error = call(*words, "--out", tmp_path / "b", code=2)
    assert message in error
    assert not (tmp_path / "b").exists()


def test_list(call: Any) -> None:
    out, _ = call("--list")
    for name in ("table", "nas-bench-201", "ofa-mobilenetv3", "hat-latency"):
        assert f"{name}:PATH" in out
    assert len(json.loads(call("--list", "--json")[0])) >= 4
