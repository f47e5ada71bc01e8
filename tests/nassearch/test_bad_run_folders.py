"""Run folders that cannot be used end with exit 2, a message that says what to do, and nothing changed."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nassearch.cli import _run
from nassearch.store import Store
from search_spaces import Gene, SearchSpace

Fails = Callable[..., str]


def test_out_that_is_taken_is_refused(base: list[str], fails: Fails, run_folder: Path, tmp_path: Path) -> None:
    fails([*base, "--out", str(run_folder)], "holds a run already", "--resume", "--overwrite")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    fails([*base, "--out", "notes"], "not empty and holds no run")
    fails([*base, "--out", "notes", "--overwrite"], "not overwritten")
    (tmp_path / "file").write_text("mine")
    fails([*base, "--out", "file"], "--out file is a file")
    fails([*base, "--out", "file/run"], "cannot be made", "file is a file")
    fails([*base, "--out", "x" * 300], "cannot be made")
    fails([*base, "--out", str(run_folder), "--dry-run"], "holds a run already")


@pytest.mark.parametrize(
    "flags",
    [["--seed", "3"], ["--space", "x"], ["--set", "num_evals=3"], ["--overwrite"], ["--dry-run"], ["--config", "x"],
     ["--strategy", "random"], ["-o", "top5:max"], ["--export-format", "onnx"]],
    ids=lambda f: f[0],
)  # fmt: skip
def test_resume_with_other_settings_is_refused(fails: Fails, run_folder: Path, flags: list[str]) -> None:
    fails(["run", "--resume", str(run_folder), *flags], "--resume goes on with the settings of")


def test_retrying_without_a_run_is_refused(base: list[str], fails: Fails) -> None:
    fails([*base, "--retry-failed"], "--retry-failed", "--resume DIR")


def test_resume_of_what_is_no_run_is_refused(fails: Fails, tmp_path: Path) -> None:
    fails(["run", "--resume", "nowhere"], "nowhere is not a folder", "--out")
    (tmp_path / "empty").mkdir()
    for command in (["run", "--resume"], ["status"], ["front"], ["report"], ["export"], ["evaluate"], ["plot"]):
        fails([*command, "empty"], "empty has no config.yaml", "no run folder")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _foreign(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_truncate, "damaged"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("hello, this is no store"), "no SQLite file"),
        (_foreign, "no store of nassearch"),
        (lambda p: p.unlink(), "does not exist"),
    ],
    ids=["truncated", "empty", "text", "another database", "missing"],
)
def test_a_store_that_is_not_ours_or_damaged_is_refused(
    fails: Fails, run_folder: Path, damage: Callable[[Path], None], part: str
) -> None:
    for tail in ("-wal", "-shm"):
        (run_folder / f"evaluations.sqlite{tail}").unlink(missing_ok=True)
    damage(run_folder / "evaluations.sqlite")
    for command in (["run", "--resume"], ["status"], ["front", "--json"], ["export"], ["evaluate"]):
        fails([*command, str(run_folder)], part, "evaluations.sqlite")


def test_a_run_folder_of_another_space_is_refused(fails: Fails, run_folder: Path) -> None:
    for path in run_folder.glob("evaluations.sqlite*"):
        path.unlink()
    with Store(run_folder / "evaluations.sqlite", SearchSpace("other", [Gene("a", [1, 2])]), create=True) as store:
        store.set_meta("bounds", {})
    fails(["run", "--resume", str(run_folder)], "belongs to search space 'other'", "'mobilenetv3-tiny'")


def test_a_run_folder_with_a_damaged_manifest_or_configuration_is_refused(fails: Fails, run_folder: Path) -> None:
    manifest = run_folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:50])
    fails(["run", "--resume", str(run_folder)], "manifest.json is missing or damaged")
    manifest.write_text(text)
    (run_folder / "config.yaml").write_text("space: [")
    fails(["run", "--resume", str(run_folder)], "config.yaml", "not valid YAML")
    fails(["status", str(run_folder)], "config.yaml", "not valid YAML")


def test_a_supernet_damaged_on_the_disk_is_refused(fails: Fails, run_folder: Path) -> None:
    (weights,) = (run_folder / "supernet").glob("*.safetensors")
    _truncate(weights)
    for command in (["run", "--resume"], ["evaluate"], ["export"]):
        fails([*command, str(run_folder)], "truncated or damaged")


def test_resume_on_other_data_is_refused(fails: Fails, run_folder: Path) -> None:
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    config["task"] += ",noise=0.3"
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    theirs = json.loads((run_folder / "manifest.json").read_text())["data_fingerprint"]
    fails(["run", "--resume", str(run_folder)], theirs, "restore the data or start a new run")


def _hold(folder: str, ready: object, release: object) -> None:
    from nassearch.folders import locked

    with locked(Path(folder)):
        ready.set()  # type: ignore[attr-defined]
        release.wait(60)  # type: ignore[attr-defined]


def test_a_run_folder_in_use_is_refused(base: list[str], fails: Fails, run_folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(run_folder), ready, release))
    other.start()
    try:
        assert ready.wait(60)
        fails(["run", "--resume", str(run_folder)], "in use by another process")
        fails([*base, "--out", str(run_folder), "--overwrite"], "in use by another process")
        assert _run(["status", str(run_folder)], debug=False) == 0  # reading is always possible
    finally:
        release.set()
        other.join(60)
