from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run

from nassearch.errors import ConfigError
from nassearch.pareto import hypervolume
from nassearch.reports.architectures import compact, gene_shares
from nassearch.reports.axes import axis_of, choose_axes, show_range
from nassearch.reports.history import forecasts, progress
from nassearch.reports.view import make_view
from nassearch.runs import Run


def test_every_successful_evaluation_is_in_exactly_one_group(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", constraints=["latency_ms <= 2", "top1 >= 75"], failed={4, 31})
    view = make_view(run)
    drawn = [r.id for g in view.groups for r in g.records]
    assert sorted(drawn) == [r.id for r in run.records if r.status == "ok"]
    kinds = {g.kind: g.records for g in view.groups}
    assert list(kinds)[-1] == "front"
    assert {r.id for r in kinds["front"]} == {r.id for r in run.front}
    assert all(r.batch == 0 and r.feasible for r in kinds["start-up"])
    assert all(r.batch > 0 and r.feasible for r in kinds["evaluated"])
    assert kinds["infeasible"]
    assert not any(r.feasible for r in kinds["infeasible"])
    assert "2 failed evaluations are not drawn." in view.notes


def test_the_start_up_ends_with_the_first_prediction(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    assert run.n_startup == 1
    longer = Run(tmp_path / "one")
    longer.__dict__["records"] = [replace(r, predicted={}) if r.batch == 1 else r for r in run.records]
    assert longer.n_startup == 2
    (started,) = (g.records for g in make_view(longer).groups if g.kind == "start-up")
    assert {r.batch for r in started} == {0, 1}
    assert make_run(tmp_path / "none", predictions=False).n_startup == 1


def test_constraints_on_plotted_metrics_are_lines_and_others_notes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", constraints=["latency_ms <= 80% of largest", "top1 >= 75", "params_m <= 0.6"])
    view = make_view(run)
    assert [(c.axis, c.below) for c in view.limits] == [("x", True), ("y", False)]
    assert view.limits[0].value == pytest.approx(0.8 * run.bounds["latency_ms"]["largest"])
    far = make_view(make_run(tmp_path / "far", constraints=["latency_ms <= 900"]))
    assert far.limits == []
    assert "The constraint latency_ms <= 900 lies outside the axes." in far.notes
    assert far.x_range[1] < 5


@pytest.mark.parametrize(
    ("objectives", "shape"),
    [
        (["top1:max", "latency_ms:min"], "hv"),
        (["latency_ms:min", "params_m:min"], "hv"),
        (["latency_ms:min", "top1:max"], "vh"),
        (["top1:max", "top5:max"], "vh"),
    ],
)
def test_the_step_line_bounds_exactly_what_the_front_attains(tmp_path: Path, objectives: list[str], shape: str) -> None:
    run = make_run(tmp_path / "r", objectives=objectives, n=80)
    view = make_view(run)
    assert view.line_shape == shape
    assert [x for x, _ in view.line] == sorted(x for x, _ in view.line)
    first, second = run.goal.objectives
    for (x0, y0), (x1, y1) in zip(view.line, view.line[1:], strict=False):
        middle, step = (x0 + x1) / 2, y0 if shape == "hv" else y1
        attained = [
            y for x, y in view.line if second.sign * x <= second.sign * middle
        ]  # front members no worse than the middle in x
        best = min(attained) if first.direction == "min" else max(attained)
        assert step == best


def test_second_look_uses_the_report_split_and_the_second_measurement(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    view = make_view(run)
    assert [r.id for r, _ in view.second] == [r.id for r in run.front]
    for r, (x, y) in view.second:
        assert (x, y) == (r.remeasured["latency_ms"], r.report["top1"])
    assert view.second_label == "front, second look: report split, measured again"
    assert make_view(make_run(tmp_path / "none", finals=False)).second == []


def test_one_objective_is_drawn_against_the_evaluations(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", objectives=["latency_ms:min"], constraints=["top1 >= 78"], n=30, failed={30})
    view = make_view(run)
    assert view.x.metric is None
    assert view.knee is None
    ys = [y for _, y in view.line]
    assert ys == sorted(ys, reverse=True)
    feasible = [r.values["latency_ms"] for r in run.records if r.feasible]
    assert ys[-1] == min(feasible)


def test_default_axes_and_chosen_ones(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", objectives=["top1:max", "latency_ms:min", "params_m:min"])
    x, y = choose_axes(run)
    assert (x.metric, y.metric) == ("latency_ms", "top1")
    assert (x.label, y.label) == ("latency_ms [ms], lower is better", "top1 [%], higher is better")
    view = make_view(run)
    assert view.colour is not None
    assert view.colour.metric == "params_m"
    assert view.line == []  # no staircase: the front is one of three objectives
    assert axis_of(run, "macs_m").label == "macs_m [M]"
    x, y = choose_axes(run, "top1")
    assert (x.metric, y.metric) == ("top1", "latency_ms")
    with pytest.raises(ConfigError, match=r"'latency'.*latency_ms.*plot one of: top1, latency_ms, params_m"):
        make_view(run, x="latency")


def test_a_far_outlier_does_not_squeeze_the_rest() -> None:
    values = [*np.linspace(1, 2, 40), 500.0]
    low, high = show_range(values)
    assert 0.9 < low < 1
    assert 2 < high < 2.2
    assert show_range(values, must=[500.0])[1] > 500
    assert show_range([]) == (0.0, 1.0)
    assert show_range([3.0, math.nan]) == pytest.approx((2.7, 3.3))


def test_hypervolume_counts_feasible_networks_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", constraints=["latency_ms >= 1.2"], failed={2})
    found = progress(run)
    assert found is not None
    assert found.ids == [r.id for r in run.records]
    assert found.volumes == sorted(found.volumes)
    for k in (1, 9, 30, 60):
        known = [r for r in run.records[:k] if r.feasible]
        whole = hypervolume(run.objective_values(known), found.reference, run.goal.objectives)
        assert found.volumes[k - 1] == pytest.approx(whole)
    feasible = run.objective_values([r for r in run.records if r.feasible])
    span = np.ptp(feasible, axis=0)
    assert found.reference == pytest.approx([feasible[:, 0].min() - span[0] / 10, feasible[:, 1].max() + span[1] / 10])
    assert progress(make_run(tmp_path / "empty", constraints=["latency_ms <= 0.1"])) is None


def test_one_interrupted_measurement_does_not_set_the_reference(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", interrupted={12}, n=100)
    assert run.records[11].values["latency_ms"] > 6
    found = progress(run)
    assert found is not None
    assert found.reference[1] < 3
    assert all(found.reference[1] > r.values["latency_ms"] for r in run.front)
    assert "1 far-off evaluation lies outside the axes." in make_view(run).notes


def test_hypervolume_of_many_objectives_ends_at_the_last_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", objectives=["top1:max", "latency_ms:min", "params_m:min"], n=331)
    found = progress(run)
    assert found is not None
    assert len(found.ids) < 200
    assert found.ids[-1] == 331
    everything = run.objective_values(run.records)
    assert found.volumes[-1] == pytest.approx(hypervolume(everything, found.reference, run.goal.objectives))


def test_forecasts_pair_each_prediction_with_its_outcome(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", failed={15})
    found = {f.metric: f for f in forecasts(run.records)}
    assert set(found) == {"top1", "latency_ms"}
    assert len(found["top1"].records) == 49  # ten of the start-up had no prediction, one failed
    assert found["latency_ms"].kendall_tau > 0.8
    assert forecasts(make_run(tmp_path / "none", predictions=False).records) == []


def test_gene_shares_count_only_networks_in_which_the_gene_matters(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    shares = {s.name: s for s in gene_shares(run.space, run.front, run.records)}
    deep = [r for r in run.front if r.arch["d.0"] == 3]
    assert shares["ks.2"].n_front == len(deep)
    if deep:
        assert shares["ks.2"].front[1] == pytest.approx(np.mean([r.arch["ks.2"] == 5 for r in deep]))
    assert shares["width"].evaluated.sum() == pytest.approx(1)
    assert shares["width"].choices == ["0.5", "0.75", "1"]
    assert np.isnan(gene_shares(run.space, [], run.records)[0].front).all()


def test_compact_architectures_name_every_active_gene(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", n=10)
    for r, lines in zip(run.records, compact(run.space, run.records), strict=True):
        assert [line.partition(":")[0] for line in lines] == ["ks", "e", "d", "width", "resolution"]
        depth = r.arch["d.0"]
        kernels = lines[0].partition(": ")[2].split(" ")
        assert len(kernels) == 9
        assert kernels[0] == str(r.arch["ks.0"])
        assert (kernels[2] == "·") == (depth < 3)
