"""The readers on the real tables, and figures known for them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from nassearch.bench import TabularProblem, bench, make_problem
from nassearch.bench.nas_bench_201 import live_cells
from nassearch.errors import ConfigError
from nassearch.objectives import Objective
from nassearch.pareto import normalised_hypervolume
from search_spaces import Rows

pytestmark = pytest.mark.needs_shared


def score(problem: TabularProblem, G: Rows) -> float:
    figures = problem.evaluate(G)
    return problem.score(problem.values(figures), problem.violations(figures), problem.reported_values(figures))


@pytest.fixture(scope="module")
def ofa(shared_data: Path) -> str:
    return f"ofa-mobilenetv3:{shared_data / 'ofa_mobilenetv3'}"


@pytest.fixture(scope="module")
def nb201(shared_data: Path) -> str:
    return f"nas-bench-201:{shared_data / 'nas_bench_201'}"


def test_ofa_scale_is_the_reference_front(ofa: str, shared_data: Path) -> None:
    problem = make_problem(ofa)
    with np.load(shared_data / "ofa_mobilenetv3" / "reference_front.npz", allow_pickle=False) as f:
        front, low, high = f["F"], f["lo"], f["hi"]
    errors = [Objective("error", "min"), Objective("ms", "min")]
    assert problem.best_hypervolume == pytest.approx(normalised_hypervolume(front, low, high, errors))
    values = front * [-1, 1] + [100, 0]
    assert problem.score(values, np.zeros((len(values), 0)), values) == pytest.approx(1.0, abs=1e-12)
    fastest = problem.evaluate(problem.space.smallest[None])["latency_ms"][0]
    assert fastest == pytest.approx(low[1], rel=1e-6)  # the same table made the front


def test_ofa_random_search_scores_what_is_known_of_it(ofa: str) -> None:
    result = bench([ofa], ["random"], seeds=11, budget=400, batch_size=50, checkpoints=[100, 200, 400])
    medians = [row.score[1] for row in result.comparison()]
    assert medians == pytest.approx([0.61, 0.65, 0.67], abs=0.035)


def test_ofa_figures_do_not_depend_on_the_other_rows(ofa: str) -> None:
    problem = make_problem(ofa)
    G = problem.space.sample(40, np.random.default_rng(0))
    together, alone = problem.evaluate(G), [problem.evaluate(row[None]) for row in G]
    for metric, column in together.items():
        np.testing.assert_array_equal(column, [a[metric][0] for a in alone])


def test_ofa_with_parameters_travels_to_workers(ofa: str) -> None:
    problem = make_problem(ofa, objectives=["top1:max", "latency_ms:min", "params_m:min"])
    assert not problem.front_known
    ends = problem.evaluate(np.stack([problem.space.smallest, problem.space.largest]))["params_m"]
    assert 4 < ends[0] < ends[1] < 12
    again = pickle.loads(pickle.dumps(problem))  # as Ray sends it
    assert again.fingerprint == problem.fingerprint
    np.testing.assert_array_equal(again.evaluate(problem.space.largest[None])["params_m"], ends[1:])


def test_ofa_under_a_latency_limit_knows_the_best_of_the_front(ofa: str) -> None:
    problem = make_problem(ofa, objectives=["top1:max"], constraints=["latency_ms <= 30"])
    assert problem.optimum == pytest.approx(82.41, abs=0.01)
    assert make_problem(f"{ofa},resolution=192").front_known is False
    with pytest.raises(ConfigError, match="resolution '200' is not there"):
        make_problem(f"{ofa},resolution=200")


def test_nas_bench_201_random_search_scores_what_is_known_of_it(nb201: str) -> None:
    result = bench([nb201], ["random"], seeds=11, budget=400, batch_size=50, checkpoints=[100, 200, 400])
    medians = [row.score[1] for row in result.comparison()]
    assert medians == pytest.approx([0.971, 0.974, 0.978], abs=0.012)


def test_nas_bench_201_best_front_is_one_and_metrics_are_the_file_s(nb201: str, shared_data: Path) -> None:
    problem = make_problem(f"{nb201},device=fpga+pixel3")
    with np.load(shared_data / "nas_bench_201" / "accuracy.npz", allow_pickle=False) as f:
        rows, top1 = f["ops"].astype(np.int64), f["test200_cifar100"]
    assert [o.metric for o in problem.objectives] == ["test200_cifar100", "latency_ms@fpga", "latency_ms@pixel3"]
    np.testing.assert_array_equal(problem.evaluate(rows)["test200_cifar100"], top1.astype(float))
    assert score(make_problem(nb201), rows) == pytest.approx(1.0, abs=1e-12)


def test_nas_bench_201_searched_on_validation_and_judged_by_test(nb201: str) -> None:
    problem = make_problem(f"{nb201},accuracy=val12_cifar100,report=test200_cifar100")
    rows = problem.table.all_rows()
    assert rows is not None
    found = score(problem, rows)
    assert 0.9 < found < 1.0  # the validation front is not the test front
    assert problem.name == "nas-bench-201-val12_cifar100-to-test200_cifar100-raspi4"


def test_nas_bench_201_live_cells(nb201: str) -> None:
    problem = make_problem(f"{nb201},cells=live")
    rows = problem.table.all_rows()
    assert rows is not None
    assert len(rows) == problem.space.n_distinct == 10_205
    live = live_cells(rows)
    np.testing.assert_array_equal(live_cells(live), live)
    assert len(np.unique(live, axis=0)) == len(set(problem.networks(rows))) == 9_445
    for metric, column in problem.evaluate(rows).items():
        np.testing.assert_array_equal(column, problem.evaluate(live)[metric], err_msg=metric)


def test_live_cells_follow_the_paths() -> None:
    """0-1 leads on over 1-2 and 2-3 only; without 2-3 nothing but 0-3 and 0-1-3 remain."""
    cells = np.array([[3, 1, 2, 4, 0, 3], [3, 1, 2, 4, 0, 0], [0, 3, 3, 0, 3, 3], [3, 0, 0, 1, 0, 3]])
    expected = [[3, 1, 2, 4, 0, 3], [0, 0, 0, 4, 0, 0], [0, 3, 0, 0, 0, 3], [0, 0, 0, 1, 0, 0]]
    assert live_cells(cells).tolist() == expected


def test_nas_bench_201_names_what_is_there(nb201: str) -> None:
    with pytest.raises(ConfigError, match="device 'raspi' is not there; did you mean 'raspi4'"):
        make_problem(f"{nb201},device=raspi")
    with pytest.raises(ConfigError, match="did you mean 'test200_cifar100'"):
        make_problem(f"{nb201},accuracy=tst200_cifar100")


@pytest.mark.parametrize("device", ["xeon", "titanxp", "raspberrypi"])
def test_hat_latency(shared_data: Path, device: str) -> None:
    problem = make_problem(f"hat-latency:{shared_data / 'hat_latency'},device={device}")
    rows = problem.table.all_rows()
    assert rows is not None
    assert len(rows) == 2000
    assert score(problem, rows) == pytest.approx(1.0)
    weights = problem.evaluate(rows)["weights_m"]
    assert 10 < weights.min() < weights.max() < 70  # the largest: 6 + 6 layers of 640 x 3072 and 512-wide attention
    last = bench([problem], ["nsga2"], seeds=1, budget=40, batch_size=10).points[-1]
    assert last.evaluations == 40
