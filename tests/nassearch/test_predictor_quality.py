"""`nassearch predictors`: what it prints, draws and saves, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nassearch.cli import _run
from nassearch.errors import ConfigError
from nassearch.measuring import plan_table
from nassearch.predictor_quality import fit_metric, fits_to_make, rows_of, shared_rows
from nassearch.runs import Run
from predictors import LatencySetting, LatencyTable, load_predictor
from predictors.latency_table import Timing
from supernets import build

Call = Callable[..., str]
FAST = ("--predictor", "ridge", "--predictor", "svr")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: object, code: int = 0) -> str:
        found = _run([str(a) for a in argv], debug=False)
        out, error = capsys.readouterr()
        assert found == code, out + error
        return out if code == 0 else error

    return run


def made_up_table(path: Path, setting: str = "cpu:eager", space: str = "mobilenetv3-tiny") -> LatencyTable:
    """A complete table of this machine in which each block costs its parameters, about."""
    table, blocks = plan_table(build(space), LatencySetting.parse(setting))
    table = table.with_overhead(Timing(0.01, 0.001, 50))
    for key in table.keys:
        cost = sum(p.numel() for p in blocks[key].make(1)[0].parameters())
        table = table.with_block(key, Timing(0.05 + cost / 1e6, 0.01, 20))
    table.save(path)
    return table


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_metric_that_is_not_computed_is_predicted_and_drawn(call: Call, run_folder: Path) -> None:
    before = contents(run_folder)
    out = call("predictors", run_folder, *FAST)
    for text in ("top1: 12 evaluations", "latency_ms: 12 evaluations", "ridge", "svr", "tau", "covered", "*"):
        assert text in out
    assert "macs_m" not in out
    assert (run_folder / "predictors.png").read_bytes().startswith(b"\x89PNG")
    after = contents(run_folder)
    assert set(after) - set(before) == {"predictors.png"}
    assert all(after[name] == data for name, data in before.items())


def test_json_tells_everything(call: Call, run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.svg"
    data = json.loads(call("predictors", run_folder, *FAST, "--metric", "latency_ms", "--out", out, "--json"))
    assert list(data["metrics"]) == ["latency_ms"]
    found = data["metrics"]["latency_ms"]
    assert [p["predictor"] for p in found["predictors"]] == ["ridge", "svr"]
    assert found["best"] in ("ridge", "svr")
    for one in found["predictors"]:
        assert one["n"] == 12
        assert 0 <= one["interval_coverage"] <= 1
        assert bool(one["learning_curve"]) == (one["predictor"] == found["best"])
        assert not one["learning_curve"] or one["learning_curve"][-1]["n"] == 11
    assert data["plot"] == str(out)
    assert out.stat().st_size > 1000
    assert data["saved"] is None


def test_thorough_means_all_learning_curves_and_every_step_is_counted(call: Call, run_folder: Path) -> None:
    flags = (*FAST, "--metric", "latency_ms")
    data = json.loads(call("predictors", run_folder, *flags, "--thorough", "--json"))
    assert all(one["learning_curve"] for one in data["metrics"]["latency_ms"]["predictors"])
    assert "leave one of them out" in call("predictors", run_folder, *flags, "--thorough", "--no-curves", code=2)
    run = Run(run_folder)
    table = made_up_table(run_folder / "t.json")
    for curves in ("all", "best", "none"):
        told: list[str] = []
        fit_metric(run, "latency_ms", ["ridge", "svr"], table=table, curves=curves, tell=told.append)  # type: ignore[arg-type]
        assert len(told) == fits_to_make(["ridge", "svr"], prior=False, table=True, curves=curves)  # type: ignore[arg-type]


def test_learning_curves_can_be_left_out(call: Call, run_folder: Path) -> None:
    out = call("predictors", run_folder, *FAST, "--no-curves")
    assert "tau N" not in out
    assert (run_folder / "predictors.png").is_file()


def test_the_best_predictor_is_saved_beside_its_quality(call: Call, run_folder: Path) -> None:
    kept = json.loads((run_folder / "predictors" / "quality.json").read_text())
    out = call("predictors", run_folder, *FAST, "--metric", "latency_ms", "--save")
    assert "saved:" in out
    quality = json.loads((run_folder / "predictors" / "quality.json").read_text())
    assert quality["top1"] == kept["top1"]
    loaded = load_predictor(run_folder / "predictors" / "latency_ms")
    assert quality["latency_ms"]["predictor"] == loaded.name
    assert loaded.name in ("ridge", "svr")


def test_another_run_is_a_prior(call: Call, run_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run_folder, tmp_path / "other")
    out = call("predictors", run_folder, *FAST, "--metric", "latency_ms", "--prior", other)
    assert "ridge + prior" in out
    assert "svr + prior" not in out


def test_a_prior_knows_no_value_that_it_is_judged_on(call: Call, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run_folder)
    assert "is the run itself" in call("predictors", run_folder, *FAST, "--prior", tmp_path / "link", code=2)
    other = Run(Path(shutil.copytree(run_folder, tmp_path / "other")))
    with contextlib.closing(sqlite3.connect(run_folder / "evaluations.sqlite")) as db, db:
        taken = json.dumps({"latency_ms": f"reused from {other.folder}"})
        db.execute("UPDATE evaluations SET measured = ? WHERE id <= 2", (taken,))
    run = Run(run_folder)
    shared = shared_rows(run, "latency_ms")
    assert shared == {r.row for r in run.records[:2]}
    assert shared_rows(run, "top1") == frozenset()
    assert len(rows_of(other, "latency_ms", without=shared)[2]) == 10
    with contextlib.closing(sqlite3.connect(run_folder / "evaluations.sqlite")) as db, db:
        db.execute("UPDATE evaluations SET measured = ?", (taken,))
    with pytest.raises(ConfigError, match="0 successful evaluations of latency_ms besides those"):
        fit_metric(Run(run_folder), "latency_ms", ["ridge"], prior=other)


def test_a_table_stands_beside_the_others(call: Call, run_folder: Path, tmp_path: Path) -> None:
    table = made_up_table(tmp_path / "t.json")
    data = json.loads(call("predictors", run_folder, *FAST, "--table", tmp_path / "t.json", "--save", "--json"))
    names = [p["predictor"] for p in data["metrics"]["latency_ms"]["predictors"]]
    assert names == ["ridge", "svr", "table", "table + line", "table + ridge"]
    assert [p["predictor"] for p in data["metrics"]["top1"]["predictors"]] == ["ridge", "svr"]
    assert data["metrics"]["latency_ms"]["predictors"][2]["basis"] == "sum"
    one = fit_metric(Run(run_folder), "latency_ms", ["ridge"], table=table).fits[1]
    rows = np.array([r.row for r in Run(run_folder).records if r.status == "ok"])
    np.testing.assert_array_equal(one.held_out.mean, table.predict(rows)[0])


def test_the_same_run_gives_the_same_figures(run_folder: Path) -> None:
    a, b = (fit_metric(Run(run_folder), "top1", ["ridge", "gp"]).best.to_json() for _ in range(2))
    assert {**a, "fit_s": 0} == {**b, "fit_s": 0}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--predictor", "rigde"), "unknown predictor 'rigde'; did you mean 'ridge'"),
        (("--predictor", "table"), "unknown predictor 'table'"),
        (("--metric", "macs_m"), "'macs_m' is not predicted"),
        (("--metric", "latency"), "did you mean 'latency_ms'"),
        (("--out", "picture.gif"), "unknown image format '.gif'"),
        (("--out", "no/where.png"), "the folder no does not exist"),
        (("--prior", "no-such-run"), "no-such-run is not a folder"),
        (("--table", "none.json"), "none.json does not exist"),
    ],
)
def test_bad_flags_are_refused_and_nothing_is_written(
    call: Call, run_folder: Path, flags: tuple[str, ...], message: str
) -> None:
    before = contents(run_folder)
    assert message in call("predictors", run_folder, *flags, "--save", code=2)
    assert contents(run_folder) == before


def test_what_is_no_run_is_refused(call: Call, tmp_path: Path) -> None:
    assert "is not a folder" in call("predictors", tmp_path / "none", code=2)
    assert "no run folder" in call("predictors", tmp_path, code=2)


def test_too_few_evaluations_say_how_to_go_on(call: Call, run_folder: Path) -> None:
    with sqlite3.connect(run_folder / "evaluations.sqlite") as db:
        db.execute("DELETE FROM evaluations WHERE id > 9")
    said = call("predictors", run_folder, *FAST, code=2)
    assert "9 successful evaluations of top1" in said
    assert f"nassearch run --resume {run_folder}" in said
    assert not (run_folder / "predictors.png").exists()


def test_tables_and_priors_of_something_else_are_refused(call: Call, run_folder: Path, tmp_path: Path) -> None:
    def refused(table: LatencyTable) -> str:
        table.save(tmp_path / "t.json")
        return call("predictors", run_folder, *FAST, "--table", tmp_path / "t.json", code=2)

    table = made_up_table(tmp_path / "t.json")
    assert "3 of 177 blocks" in refused(replace(table, blocks={k: table.blocks[k] for k in table.keys[:3]}))
    other_device = refused(replace(table, device=replace(table.device, cpu="Another CPU")))
    assert "for latency_ms, it was measured on another device (cpu Another CPU, not" in other_device
    assert "--prior" in other_device
    other_setting = refused(replace(table, setting=LatencySetting.parse("cpu:eager,batch=8")))
    assert "it was measured with cpu:eager,batch=8" in other_setting
    other_space, _ = plan_table(build("ofa-mobilenetv3-w1.0"), LatencySetting.parse("cpu:eager"))
    for key in other_space.keys:
        other_space = other_space.with_block(key, Timing(1.0, 0.1, 5))
    assert "is of space 'ofa-mobilenetv3-w1.0'" in refused(other_space)
    text = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(text[: len(text) // 2])
    said = call("predictors", run_folder, *FAST, "--table", tmp_path / "t.json", code=2)
    assert "truncated" in said
    assert not (run_folder / "predictors.png").exists()
