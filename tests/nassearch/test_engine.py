"""The engine from Python: what a run leaves, other weights, constraints, resume, plug-ins, failures."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

import nassearch
from nassearch.console import make_console
from nassearch.errors import EvaluationError
from nassearch.evaluation import Part, SupernetEvaluator
from nassearch.runs import Run
from nassearch.store import Store
from supernets import build

Search = Callable[..., Run]


@pytest.fixture
def search(small_task: str, finished: Path, tmp_path: Path) -> Search:
    """Run a short search with the weights of the finished run; settings go over the usual ones."""

    def run(console: Console | None = None, **settings: Any) -> Run:
        usual = {
            "space": "mobilenetv3-tiny",
            "task": small_task,
            "objectives": ["top1:max", "macs_m:min"],
            "num_evals": 6,
            "batch_size": 3,
            "strategy": "random",
            "supernet": str(finished / "supernet"),
            "export": {"format": "none"},
            "out": str(tmp_path / "run"),
        }
        return nassearch.run(usual | settings, console=console or make_console(quiet=True))

    return run


def _resume(folder: Path, **changes: Any) -> Run:
    return nassearch.resume(folder, console=make_console(quiet=True), **changes)


def _recorder() -> Console:
    return Console(file=io.StringIO(), width=200)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


# -- what a run leaves -------------------------------------------------------------------------------


def test_the_run_folder_is_complete(finished: Path, small_settings: dict[str, Any]) -> None:
    names = {p.name for p in finished.iterdir()}
    assert names >= {
        *("config.yaml", "manifest.json", "evaluations.sqlite", "supernet", "predictors", "front.csv", "front.json"),
        *("front.png", "report.html", "exports"),
    }
    assert "training" not in names  # checkpoints of the training are of no use any more
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["objectives"] == small_settings["objectives"]
    manifest = json.loads((finished / "manifest.json").read_text())
    assert {"command", "created", "versions", "hardware", "seed", "space_identity", "data_fingerprint"} <= set(manifest)
    assert manifest["latency"]["latency_ms"].startswith("cpu:eager")
    assert manifest["training"]["epochs"] == 2
    quality = json.loads((finished / "predictors" / "quality.json").read_text())
    assert set(quality) == {"top1", "latency_ms"}
    from predictors import load_predictor

    run = Run(finished)
    X = run.space.features([r.row for r in run.records])
    mean, std = load_predictor(finished / "predictors" / "latency_ms").predict(X)
    assert mean.shape == std.shape == (12,)
    (exported,) = (finished / "exports").iterdir()
    assert exported.name == f"{run.select('knee').id}-torch"


def test_the_front_is_feasible_and_every_member_was_looked_at_again(finished: Path) -> None:
    run = Run(finished)
    limit = 0.8 * run.bounds["macs_m"]["largest"]
    assert run.goal.constraints[0].limit == pytest.approx(limit, rel=1e-12)
    assert any(not r.feasible for r in run.records) or all(r.values["macs_m"] <= limit for r in run.records)
    assert run.front
    for r in run.front:
        assert r.values["macs_m"] <= limit
        assert set(r.remeasured) == {"latency_ms"}
        assert "top1" in r.report
        assert set(r.report) <= set(run.task().metrics)
    assert any(r.remeasured != {"latency_ms": r.values["latency_ms"]} for r in run.front)  # measured anew, not copied
    assert all(not r.report for r in run.records if not r.on_front)
    values = [(r.values["top1"], r.values["latency_ms"]) for r in run.records if r.feasible]
    for r in run.front:
        assert not [v for v in values if v[0] >= r.values["top1"] and v[1] < r.values["latency_ms"]]


def test_the_front_files_agree_with_the_store(finished: Path) -> None:
    run = Run(finished)
    rows = list(csv.DictReader(io.StringIO((finished / "front.csv").read_text())))
    genes = [g.name for g in run.space.genes]
    assert list(rows[0])[:4] == ["id", "top1", "latency_ms", "macs_m"]
    assert list(rows[0])[-len(genes) :] == genes
    assert {"latency_ms_remeasured", "top1_report", "params_m", "size_mb"} <= set(rows[0])
    data = json.loads((finished / "front.json").read_text())
    assert [int(r["id"]) for r in rows] == [m["id"] for m in data["front"]] == [r.id for r in run.front]
    for row, member, record in zip(rows, data["front"], run.front, strict=True):
        assert float(row["top1"]) == member["search"]["top1"] == record.values["top1"]
        assert float(row["latency_ms_remeasured"]) == member["remeasured"]["latency_ms"]
        assert float(row["top1_report"]) == member["report"]["top1"]
        assert member["architecture"] == record.arch
        assert [row[g] for g in genes] == [str(record.arch[g]) for g in genes]
    assert data["n_evaluated"] == 12
    assert data["constraints"] == [str(c) for c in run.goal.constraints]


# -- weights from elsewhere --------------------------------------------------------------------------


def test_a_trained_supernet_is_searched_again_without_training(search: Search, finished: Path) -> None:
    run = search()
    weights = {p.name for p in (finished / "supernet").glob("*.safetensors")}
    assert {p.name for p in (run.folder / "supernet").glob("*.safetensors")} == weights
    assert run.manifest["training_method"] == "none"
    # The same network has the same quality in both runs.
    first, again = Run(finished), run
    for record in first.records[:2]:
        (arch,) = first.space.decode([record.row])
        config = again.config.evaluation
        from nassearch.evaluation import EvaluationSettings

        evaluator = SupernetEvaluator(
            again.supernet(), again.task(), EvaluationSettings((), {}, config.batch_size, config.calibration_size)
        )
        assert evaluator.quality(arch).values["top1"] == record.values["top1"]


def test_a_run_goes_on_when_the_supernet_it_came_from_is_gone(search: Search, finished: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(finished / "supernet", tmp_path / "source"))
    run = search(supernet=str(source))
    shutil.rmtree(source)
    assert len(_resume(run.folder, num_evals=8).records) == 8


def test_published_weights_are_read(search: Search, tmp_path: Path) -> None:
    from supernets.mobilenetv3.checkpoint import _names

    for name, colour in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (32, 32), (colour + i, 90, 90)).save(tmp_path / "photos" / name / f"{i}.png")
    torch.manual_seed(0)
    net = build("ofa-mobilenetv3-w1.0", num_classes=2)
    state = {name: t.detach().clone() for name, t in _names(net)}
    torch.save({"state_dict": state}, tmp_path / "ofa.pth")
    run = search(
        space="ofa-mobilenetv3-w1.0",
        task=f"imagefolder:{tmp_path / 'photos'}",
        supernet=None,
        checkpoint=str(tmp_path / "ofa.pth"),
        num_evals=2,
    )
    assert [r.status for r in run.records] == ["ok", "ok"]
    loaded = dict(_names(run.supernet()))
    assert all(torch.equal(loaded[name], t) for name, t in state.items())


# -- constraints and objectives ----------------------------------------------------------------------


def test_relative_constraints_hold_on_the_front(search: Search) -> None:
    run = search(constraints=["macs_m <= 60% of largest", "params_m >= 150% of smallest"], num_evals=20)
    macs, params = run.bounds["macs_m"], run.bounds["params_m"]
    assert macs["most"] > 0.6 * macs["largest"]  # there is something to keep out
    assert run.front
    for r in run.front:
        assert r.values["macs_m"] <= 0.6 * macs["largest"]
        assert r.values["params_m"] >= 1.5 * params["smallest"]


def test_limits_on_quality_are_resolved_with_the_trained_weights(search: Search) -> None:
    console = _recorder()
    run = search(console, constraints=["top1 >= 50% of largest"], objectives=["macs_m:min"])
    (arch,) = run.space.decode(run.space.largest[None])
    from nassearch.evaluation import EvaluationSettings

    evaluator = SupernetEvaluator(run.supernet(), run.task(), EvaluationSettings((), {}, 256, 256))
    largest = evaluator.quality(arch).values["top1"]
    assert run.bounds["top1"]["largest"] == largest
    assert run.goal.constraints[0].limit == pytest.approx(largest / 2)
    assert "Bounds of constrained metrics" in _text(console)
    assert all(r.values["top1"] >= largest / 2 for r in run.front)


def test_an_empty_front_is_reported_as_such(search: Search) -> None:
    console = _recorder()
    run = search(console, constraints=["top1 >= 99.9"], export={"format": "torch"})
    assert run.front == []
    text = _text(console)
    assert "No network of this table meets top1 >= 99.9" in text
    assert "The front is empty: of 6 evaluated networks none met every constraint" in text
    assert json.loads((run.folder / "front.json").read_text())["front"] == []
    assert (run.folder / "report.html").is_file()
    assert not (run.folder / "exports").exists()


@pytest.mark.parametrize("objectives", [["top1:max"], ["top1:max", "params_m:min", "macs_m:min", "size_mb:min"]])
def test_one_to_four_objectives(search: Search, objectives: list[str]) -> None:
    run = search(objectives=objectives, strategy="linas", num_evals=8)
    assert run.front
    assert (run.folder / "report.html").is_file()


def test_constant_quality_is_no_obstacle(search: Search) -> None:
    # Untrained weights answer the same class always; predictors are fitted to that from ten evaluations on.
    run = search(supernet=None, train={"method": "none"}, num_evals=11)
    assert (run.folder / "predictors" / "quality.json").is_file()


# -- resume ------------------------------------------------------------------------------------------


def _rows(folder: Path) -> list[Any]:
    run = Run(folder)
    store = run.open_store()
    try:
        return [store.proposals(), store.outcomes(), store.finals(), store.events()]
    finally:
        store.close()


def test_resuming_a_finished_run_only_writes_its_reports_again(run_folder: Path) -> None:
    before, front = _rows(run_folder), (run_folder / "front.csv").read_text()
    exported = sorted(p.name for p in (run_folder / "exports").iterdir())
    for name in ("front.csv", "front.json", "report.html"):
        (run_folder / name).unlink()
    _resume(run_folder)
    assert _rows(run_folder) == before
    assert (run_folder / "front.csv").read_text() == front
    assert (run_folder / "report.html").is_file()
    assert sorted(p.name for p in (run_folder / "exports").iterdir()) == exported


def test_a_larger_budget_goes_on_and_is_remembered(run_folder: Path) -> None:
    before = _rows(run_folder)[1]
    run = _resume(run_folder, num_evals=15)
    assert len(run.records) == 15
    assert {i: o for i, o in _rows(run_folder)[1].items() if i in before} == before
    assert Run(run_folder).config.num_evals == 15
    assert all(r.report for r in run.front)
    assert len(_resume(run_folder).records) == 15


def test_a_run_stopped_by_failures_goes_on_when_they_are_mended(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: SupernetEvaluator, _arch: Mapping[str, Any], _split: str = "search") -> Part:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(SupernetEvaluator, "quality", broken)
        with pytest.raises(EvaluationError, match=r"4 evaluations failed in a row.*out of memory.*--resume"):
            search(num_evals=10, executor={"max_consecutive_failures": 4})
    stopped = Run(tmp_path / "run")
    assert [r.error for r in stopped.records] == ["RuntimeError: out of memory"] * 4
    run = _resume(tmp_path / "run")
    assert [r.status for r in run.records] == ["failed"] * 4 + ["ok"] * 6
    assert run.front
    again = _resume(tmp_path / "run", retry_failed=True)
    assert [r.status for r in again.records] == ["ok"] * 10
    assert [r.values for r in again.records[4:]] == [r.values for r in run.records[4:]]
    assert [r.row for r in again.records] == [r.row for r in run.records]
    assert all(r.report for r in again.front)


def test_costs_are_measured_at_the_resolution_of_their_setting(search: Search) -> None:
    settings = ["small=cpu:eager,budget_ms=10,resolution=12", "large=cpu:eager,budget_ms=10,resolution=48"]
    metrics = ["peak_memory_mb@small", "peak_memory_mb@large", "latency_ms@large"]
    run = search(latency=settings, objectives=["top1:max", *(f"{m}:min" for m in metrics)], num_evals=3)
    for r in run.records:
        assert r.values["peak_memory_mb@large"] > r.values["peak_memory_mb@small"]
        assert r.device["latency_ms@large"]["setting"]["resolution"] == 48


def test_a_second_look_that_fails_is_told_and_tried_again_on_resume(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, console = SupernetEvaluator.quality, _recorder()

    def sometimes(self: SupernetEvaluator, arch: Mapping[str, Any], split: str = "search") -> Part:
        if split == "report":
            raise RuntimeError("the report split is on another disk")
        return original(self, arch, split)

    with monkeypatch.context() as patched:
        patched.setattr(SupernetEvaluator, "quality", sometimes)
        run = search(console)
    assert "failed: RuntimeError: the report split is on another disk" in _text(console)
    assert run.front
    assert not any(r.report for r in run.front)
    assert (run.folder / "report.html").is_file()
    assert all(r.report for r in _resume(run.folder).front)


def test_async_runs_finish_and_resume(search: Search, tmp_path: Path) -> None:
    run = search(executor={"asynchronous": True}, strategy="nsga2")
    assert len(run.records) == 6
    assert len(_resume(tmp_path / "run", num_evals=9).records) == 9


# -- the Python API ----------------------------------------------------------------------------------


def test_a_run_from_a_yaml_file_and_over_an_old_one(search: Search, tmp_path: Path) -> None:
    run = search()
    file = tmp_path / "again.yaml"
    shutil.copy(run.folder / "config.yaml", file)
    with pytest.raises(nassearch.NassearchError, match="holds a run already"):
        nassearch.run(file, console=make_console(quiet=True))
    again = nassearch.run(str(file), overwrite=True, console=make_console(quiet=True))
    assert [(r.row, r.values) for r in again.records] == [(r.row, r.values) for r in run.records]


def test_the_same_settings_give_the_same_run_from_training_on(small_settings: dict[str, Any], tmp_path: Path) -> None:
    settings = small_settings | {
        "objectives": ["top1:max", "macs_m:min"], "constraints": [], "num_evals": 5, "export": {"format": "none"},
    }  # fmt: skip
    runs = [nassearch.run(settings | {"out": str(tmp_path / name)}, console=make_console(quiet=True)) for name in "ab"]
    assert [(r.row, r.values, r.report) for r in runs[0].records] == [
        (r.row, r.values, r.report) for r in runs[1].records
    ]
    weights = [[p.name for p in (r.folder / "supernet").glob("*.safetensors")] for r in runs]
    assert weights[0] == weights[1]


PLUGIN = '''
"""A space, its supernet and a strategy of a user."""
import numpy as np
from nassearch.strategies import Strategy, register_strategy
from search_spaces import get_space, mobilenetv3_space, register_space
from supernets import register_supernet
from supernets.mobilenetv3 import MobileNetV3Supernet
from supernets.mobilenetv3.layout import tiny_layout


@register_space("plugged-tiny")
def plugged_tiny():
    """A space with one kernel size."""
    return mobilenetv3_space(
        "plugged-tiny", stages=3, kernel_sizes=(3,), expand_ratios=(2, 3, 4), depths=(1, 2, 3),
        widths=(0.5, 0.75, 1.0), resolutions=(12, 16),
    )


@register_supernet("plugged-tiny")
def build_plugged_tiny(*, in_channels=1, num_classes=10):
    return MobileNetV3Supernet(
        layout=tiny_layout(), space=get_space("plugged-tiny"), in_channels=in_channels, num_classes=num_classes
    )


@register_strategy("plugged-largest-first")
class LargestFirst(Strategy):
    """The largest network, then random ones."""

    def _propose(self, n, rng):
        return np.concatenate([self.space.largest[None], self.random_rows(n, rng)])
'''


def test_plug_ins_bring_spaces_supernets_and_strategies(
    small_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugged_tiny.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    run = nassearch.run(
        {
            "space": "plugged-tiny",
            "task": small_task,
            "objectives": ["top1:max", "params_m:min"],
            "num_evals": 4,
            "strategy": "plugged-largest-first",
            "train": {"method": "none"},
            "export": {"format": "none"},
            "plugins": ["plugged_tiny"],
            "out": str(tmp_path / "run"),
        },
        console=make_console(quiet=True),
    )
    assert run.records[0].row == tuple(run.space.largest)
    assert len(run.records) == 4
    # Another process imports them when it needs them, and only then.
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "nassearch", "evaluate", str(run.folder), "--subnet", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["values"]["params_m"] == run.records[0].values["params_m"]
    with Store(run.folder / "evaluations.sqlite", run.space, read_only=True) as store:
        assert store.meta("trained")["method"] == "none"


def test_a_run_and_an_export_may_fill_the_empty_folder_one_stands_in(
    finished: Path, small_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = small_settings | {
        "supernet": finished / "supernet",
        "train": {},
        "export": {"format": "none"},
        "out": ".",
    }
    run = nassearch.run(settings, console=make_console(quiet=True))
    assert len(run.records) == len(nassearch.Run(tmp_path / "here").records)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    nassearch.export(nassearch.Run(tmp_path / "here"), out=Path())
    assert (tmp_path / "there" / "model.pt2").is_file()


def test_relative_data_paths_count_from_where_the_run_was_started(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (200, 16, 16), dtype=np.uint8), np.arange(200) % 10
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    monkeypatch.chdir(tmp_path)
    run = nassearch.run(
        {
            "space": "mobilenetv3-tiny", "task": "npz:data.npz", "objectives": ["top1:max", "macs_m:min"],
            "num_evals": 4, "supernet": str(finished / "supernet"), "out": "run", "export": {"format": "none"},
        },
        console=make_console(quiet=True),
    )  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = nassearch.resume(tmp_path / "run", num_evals=6, console=make_console(quiet=True))
    assert (len(run.records), len(again.records)) == (4, 6)
