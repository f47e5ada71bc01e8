"""Reports of expert searches: what is drawn, and where nothing is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expert_runs import made_up_run

from nassearch.errors import ConfigError
from nassearch.finish import front_columns
from nassearch.goal import Goal
from nassearch.objectives import Objective
from nassearch.reports import expert_data as data
from nassearch.reports import plot_front, write_report
from nassearch.reports.expert_figures import curve_figure, grid_figure
from nassearch.reports.results import front_members
from nassearch.reports.sections import pictures
from nassearch.reports.view import make_view
from nassearch.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up_run(tmp_path_factory.mktemp("runs") / "joint")


def test_the_curve_is_the_best_with_so_many_experts_and_bends_at_its_knee(run: Run) -> None:
    curve = data.quality_curve(run)
    assert curve is not None
    assert curve.objective.metric == "nll"
    points = list(zip(curve.shares, curve.values, strict=True))
    for share, value in curve.best:
        assert value == min(v for s, v in points if s <= share)
    assert [p[1] for p in curve.best] == sorted((p[1] for p in curve.best), reverse=True)
    ends = np.array([curve.best[0], curve.best[-1]])
    scaled = (np.array(curve.best) - ends.min(0)) / np.ptp(ends, axis=0)
    assert curve.knee == curve.best[int(scaled.sum(1).argmin())]
    record = run.records[0]
    kept = [v for g, v in record.arch.items() if g.startswith("keep")]
    assert data.kept_share(run, record) == pytest.approx(100 * np.mean(kept) / 32)


def test_heat_maps_show_what_the_run_says(run: Run) -> None:
    members, told = data.members_grid(run), data.explanation(run)
    assert members is not None
    assert told is not None
    first = run.front[0]
    assert members.rows[0] == f"#{first.id}"
    assert members.values[0].tolist() == [first.arch[f"keep.{i}"] for i in range(8)]
    assert len(members.rows) <= 24
    kept = data.kept_grid(told)
    assert kept is not None
    by_layer = kept.values.sum(1) / 100 * len(run.front)
    assert by_layer.tolist() == pytest.approx([sum(int(str(r.arch[f"keep.{i}"])) for r in run.front) for i in range(8)])
    usage = data.usage_grids(told)
    assert list(usage) == ["calibration", "shakespeare", "wikitext", "python"]
    assert all(g.values.mean(1) == pytest.approx(np.ones(8)) for g in usage.values())  # an even share is 1
    assert {g.limit for g in usage.values()} == {max(float(g.values.max()) for g in usage.values())}


def test_dense_and_skipped_blocks_and_shared_experts_are_shown(tmp_path: Path) -> None:
    """A dense block has one expert and a skipped one none, whatever is kept; an expert that is shared is kept."""
    run = made_up_run(tmp_path / "kinds", n=60, kinds=True)
    members = data.members_grid(run)
    assert members is not None
    assert {r.arch["block.0"] for r in run.front} == {"experts", "dense", "skip"}
    for label, line, tips in zip(members.rows, members.values, members.tips, strict=True):
        record = run.select(label.removeprefix("#"))
        kind, keep = str(record.arch["block.0"]), int(str(record.arch["keep.0"]))
        assert line[0] == {"experts": keep, "dense": 1, "skip": 0}[kind]
        assert (f", {kind}" in tips[0]) == (kind != "experts")
        assert data.kept_share(run, record) == pytest.approx(100 * line.mean() / 32)
    told = {
        "subnets": [[[4, 0]], [[3, 2]]], "states": ["gone", "constant", "merged", "kept", "shared"], "layers": [0],
        "n_experts": 2,
    }  # fmt: skip
    kept = data.kept_grid(told)
    assert kept is not None
    assert kept.values.tolist() == [[100.0, 0.0]]


def test_figures_are_json_and_escape_what_they_show(run: Run) -> None:
    curve, members = data.quality_curve(run), data.members_grid(run)
    assert curve is not None
    assert members is not None
    json.dumps([curve_figure(curve), grid_figure(members, "layer", "member", "experts")], allow_nan=False)
    odd = data.Grid(["<b>"], ["0"], np.zeros((1, 1)), 1.0, [["<script>"]])
    assert "<script>" not in json.dumps(grid_figure(odd, "x", "y", "z"))


def test_report_and_pictures_are_written_with_baselines_beside(run: Run, tmp_path: Path) -> None:
    baseline = made_up_run(tmp_path / "reap", strategy="uniform", n=30, seed=1, worse=0.5, told=False)
    page = write_report(run, others=[baseline]).read_text(encoding="utf-8")
    assert (run.folder / "experts.png").stat().st_size > 10_000
    assert '<section id="experts">' in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1))  # type: ignore[union-attr]
    names = [t.get("name") for f in figures.values() for t in f["data"]]
    assert "uniform (reap)" in names
    assert sum(t["type"] == "heatmap" for f in figures.values() for t in f["data"]) == 1 + 1 + 1 + 4
    plot_front(run, tmp_path / "front.png", others=[baseline])
    view = make_view(run, others=[baseline])
    assert len(view.others[0].points) == len(baseline.front)
    assert view.y_range[1] > max(v for _, v in view.others[0].points)
    with pytest.raises(ConfigError, match="cannot be compared: its front has no latency_ms"):
        make_view(_with_metric(run, "latency_ms"), "latency_ms", "nll", others=[baseline])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "models/mixtral"}, "its model is models/mixtral, not models/olmoe"),
        ({"task": "causal-lm:text:data/wikitext"}, "its data are causal-lm:text:data/wikitext, not"),
        ({"objectives": ["nll:min"]}, "its objectives are nll:min, not nll:min, size_mb:min"),
        ({"objectives": ["nll:min", "size_mb:max"]}, "its objectives are nll:min, size_mb:max, not"),
    ],
)
def test_runs_of_something_else_are_not_shown_beside(
    changes: dict[str, Any], message: str, run: Run, tmp_path: Path
) -> None:
    """A front says nothing about another model, other data, or other objectives."""
    other = made_up_run(tmp_path / "other", n=12, told=False, **changes)
    with pytest.raises(ConfigError, match=f"cannot be shown beside .*: {message}"):
        make_view(run, others=[other])
    assert not (tmp_path / "front.png").exists()


def test_the_same_data_and_model_may_have_other_paths(run: Run, tmp_path: Path) -> None:
    """A run that was started elsewhere names them otherwise; what it says of the data tells."""
    there = made_up_run(tmp_path / "there", n=12, told=False, model="olmoe", task="causal-lm:text:shakespeare")
    here = Run(run.folder)
    for r, folder, spec in ((here, "/work", "data/shakespeare"), (there, "/work/models", "shakespeare")):
        data = {"task": "causal-lm", "spec": spec, "seed": len(spec), "fingerprint": spec, "splits": {"search": 9}}
        r.manifest.update(working_directory=folder, task=data)
    assert len(make_view(here, others=[there]).others) == 1
    there.manifest["task"]["splits"] = {"search": 8}
    with pytest.raises(ConfigError, match="its data are"):
        make_view(here, others=[there])


def test_the_size_of_the_set_is_shown_beside_how_well_it_predicts(tmp_path: Path) -> None:
    """SRP alone could be reached by predicting all experts."""
    run = _with_metric(made_up_run(tmp_path / "local", n=12, told=False), "srp.16")
    run.goal = Goal((*run.goal.objectives, Objective("srp.16", "max")))
    assert front_columns(run)[0] == ["nll", "size_mb", "srp.16"]
    for r in run.records:
        r.values["srp_rho.16"] = 2.5  # type: ignore[index]
    assert front_columns(run)[0] == ["nll", "size_mb", "srp.16", "srp_rho.16"]
    assert "srp_rho.16" in front_members(run)


def _with_metric(run: Run, metric: str) -> Run:
    found = Run(run.folder)
    for r in found.records:
        r.values[metric] = 1.0  # type: ignore[index]
    return found


def test_runs_without_explanation_or_experts_have_less(tmp_path: Path) -> None:
    plain = made_up_run(tmp_path / "plain", n=12, told=False)
    assert data.explanation(plain) is None
    assert set(pictures(plain)) == {"experts"}
    (plain.folder / "explained.json").write_text("{")
    assert data.explanation(plain) is None
    (plain.folder / "explained.json").write_text('{"kind": "other"}')
    assert data.explanation(plain) is None


def test_a_run_tells_which_experts_answer_and_how_often_they_are_asked(expert_run: Run) -> None:
    told = data.explanation(expert_run)
    assert told is not None
    assert told["ids"] == [r.id for r in expert_run.front]
    net: Any = expert_run.supernet()
    assert np.array(told["usage"]["calibration"]).sum(1) == pytest.approx(np.ones(2))
    assert told["usage"]["calibration"][0] == pytest.approx(net.statistics[0].frequencies().tolist())
    for record, states in zip(expert_run.front, told["subnets"], strict=True):
        for slot, found in enumerate(states):
            keep, how = record.arch[f"keep.{slot}"], record.arch[f"op.{slot}"]
            names = [told["states"][s] for s in found]
            if keep == 8:
                assert names == ["kept"] * 8
            elif how == "drop":
                assert (names.count("kept"), names.count("gone")) == (keep, 8 - int(str(keep)))
            elif how == "mone":
                assert (names.count("kept"), names.count("constant")) == (keep, 8 - int(str(keep)))
            else:
                assert names.count("gone") == 0
                assert names.count("merged") > 8 - int(str(keep))
    page = (expert_run.folder / "report.html").read_text(encoding="utf-8")
    assert '<section id="experts">' in page
    assert (expert_run.folder / "experts.png").exists()
    batches = expert_run.task().calibration_inputs(4)
    usage = net.explain([], {"all": batches, "one": expert_run.task().calibration_inputs(1)[:1]})["usage"]
    assert usage["all"][0] == pytest.approx(told["usage"]["calibration"][0])  # the same text, counted another way
    assert usage["one"] != usage["all"]
