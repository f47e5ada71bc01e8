"""Tables and problems: look-up, scale, hypervolume, constraints, reported metrics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

from nassearch.bench import KnownFront, RowTable, Table, TabularProblem
from nassearch.errors import ConfigError, DataError
from nassearch.objectives import Objective
from search_spaces import Gene, Rows, SearchSpace


def score(problem: TabularProblem, G: Rows) -> float:
    figures = problem.evaluate(G)
    return problem.score(problem.values(figures), problem.violations(figures), problem.reported_values(figures))


def test_look_up_finds_networks_by_their_canonical_form(problem: TabularProblem, columns: dict[str, Any]) -> None:
    rows = columns["rows"][::-1].copy()
    shallow = rows[:, 0] == 0
    rows[shallow, 4] = 3  # inactive there
    found = problem.evaluate(rows)
    np.testing.assert_array_equal(found["top1"], columns["top1"][::-1])
    assert len(set(problem.networks(rows))) == len(rows)


def test_score_is_the_scaled_hypervolume_by_the_best_one(problem: TabularProblem, columns: dict[str, Any]) -> None:
    f = np.stack([-columns["top1"], columns["latency_ms"]], axis=1)
    f = (f - f.min(axis=0)) / (f.max(axis=0) - f.min(axis=0))
    # Counted on a grid of points: independent of the sweep that is tested.
    rng = np.random.default_rng(0)
    grid = rng.random((4000, 2))

    def dominated(points: np.ndarray) -> float:
        return float((points[:, None] <= grid[None]).all(axis=2).any(axis=0).mean())

    some = np.arange(0, len(f), 17)
    assert score(problem, columns["rows"]) == pytest.approx(1.0, abs=1e-12)
    assert problem.best_hypervolume == pytest.approx(dominated(f), abs=0.03)
    assert score(problem, columns["rows"][some]) == pytest.approx(dominated(f[some]) / dominated(f), abs=0.03)


def test_one_objective_scores_one_minus_the_regret(table: RowTable, columns: dict[str, Any]) -> None:
    problem = TabularProblem(table, ["top1:max"])
    top1, i = columns["top1"], 5
    expected = 1 - (top1.max() - top1[i]) / (top1.max() - top1.min())
    assert score(problem, columns["rows"][i : i + 1]) == pytest.approx(expected)
    assert problem.optimum == top1.max()


def test_constraints_limit_what_counts_and_what_is_best(table: RowTable, columns: dict[str, Any]) -> None:
    limit = float(np.quantile(columns["latency_ms"], 0.3))
    problem = TabularProblem(table, ["top1:max"], [f"latency_ms <= {limit}"])
    within = columns["latency_ms"] <= limit
    assert problem.optimum == columns["top1"][within].max()
    assert score(problem, columns["rows"][~within]) == 0.0
    assert score(problem, columns["rows"]) == pytest.approx(1.0)


def test_relative_constraints_use_both_ends_of_the_space(table: RowTable) -> None:
    problem = TabularProblem(table, constraints=["params_m <= 60% of largest"])
    largest = problem.evaluate(problem.space.largest[None], ["params_m"])["params_m"][0]
    assert problem.constraints[0].limit == pytest.approx(0.6 * largest)


def test_the_front_is_chosen_by_the_objectives_and_judged_by_reported_metrics(
    table: RowTable, columns: dict[str, Any]
) -> None:
    problem = TabularProblem(table, ["top1:max"], report={"top1": "test"})
    best = int(columns["top1"].argmax())
    test = columns["test"]
    expected = (test[best] - test.min()) / (test.max() - test.min())
    assert score(problem, columns["rows"]) == pytest.approx(expected)
    assert expected < 1
    assert problem.optimum == test.max()


def test_analytic_metrics_are_offered_only_where_they_are_used(table: RowTable) -> None:
    assert TabularProblem(table).analytic is None
    analytic = TabularProblem(table, ["top1:max", "params_m:min"]).analytic
    assert analytic is not None
    assert set(analytic(table.all_rows()[:3])) == {"params_m"}


def test_failed_evaluations_are_nan_and_no_part_of_the_scale(space: SearchSpace, columns: dict[str, Any]) -> None:
    top1 = columns["top1"].copy()
    top1[7] = np.nan
    metrics = {"top1": top1, "latency_ms": columns["latency_ms"]}
    problem = TabularProblem(RowTable("t", space, columns["rows"], metrics, objectives=["top1:max", "latency_ms:min"]))
    assert np.isnan(problem.evaluate(columns["rows"][7:8])["top1"][0])
    assert np.isfinite(problem.ideal).all()
    assert score(problem, columns["rows"]) == pytest.approx(1.0)


@pytest.mark.parametrize("missing", ["nearest", "failed"])
def test_networks_that_are_not_listed(space: SearchSpace, columns: dict[str, Any], missing: str) -> None:
    listed = np.arange(0, len(columns["rows"]), 3)
    rows, top1 = columns["rows"][listed], columns["top1"][listed]
    table = RowTable("t", space, rows, {"top1": top1}, objectives=["top1:max"], missing=missing)
    problem = TabularProblem(table)
    every = problem.evaluate(columns["rows"])["top1"]
    np.testing.assert_array_equal(every[listed], top1)
    if missing == "failed":
        assert np.isnan(every).sum() == len(every) - len(listed)
        return
    one_by_one = np.concatenate([problem.evaluate(row[None])["top1"] for row in columns["rows"]])
    np.testing.assert_array_equal(every, one_by_one)
    assert len(set(problem.networks(columns["rows"]))) == len(listed)
    # A neighbour that differs least has the figures: w3 4 -> the listed row nearest in features.
    features = space.features(columns["rows"])
    distance = np.linalg.norm(features[:, None] - features[listed][None], axis=2)
    at = np.array([int(np.flatnonzero(listed == listed[i])[0]) for i in distance.argmin(axis=1)])
    chosen = np.array([distance[r, np.flatnonzero(top1 == v)].min() for r, v in enumerate(every)])
    np.testing.assert_allclose(chosen, distance[np.arange(len(at)), at], atol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {"top1": [1.0]}}, r"shape \[1\]; with 216 genotypes"),
        ({"rows": "repeated"}, "1 of 216 genotypes repeat"),
        ({"rows": "fewer"}, "lists 200 of the 216 networks"),
        ({"missing": "guess"}, "missing must be one of nearest, failed"),
        ({"metrics": {"top1": np.full(216, np.inf)}}, "infinite"),
    ],
)
def test_tables_that_do_not_fit(
    space: SearchSpace, columns: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    rows = columns["rows"].copy()
    metrics = {"top1": columns["top1"]}
    if change.get("rows") == "repeated":
        rows[1] = rows[0]
    if change.get("rows") == "fewer":
        rows, metrics = rows[:200], {"top1": metrics["top1"][:200]}
    with pytest.raises(DataError, match=message):
        RowTable(
            "t", space, rows, change.get("metrics", metrics), objectives=["top1:max"], missing=change.get("missing")
        )


def test_unknown_metrics_are_reported_together(table: RowTable) -> None:
    with pytest.raises(ConfigError, match=r"2 things(.|\n)*'top'; did you mean 'top1'(.|\n)*'latency'; did"):
        TabularProblem(table, ["top:max"], ["latency <= 3"])


def test_a_constraint_that_no_network_meets(table: RowTable) -> None:
    with pytest.raises(ConfigError, match="no network that meets latency_ms <= 0"):
        TabularProblem(table, constraints=["latency_ms <= 0"])


class _Large(Table):
    """A space that cannot be listed: the sum of the genes against its square."""

    def __init__(self, known: bool) -> None:
        self.name, self.metrics, self.objectives = "large", ("a", "b"), ("a:max", "b:min")
        self.space = SearchSpace("large", [Gene(f"g.{i}", range(8)) for i in range(30)])
        self._known = known

    def evaluate(self, G: Rows, metrics: Collection[str]) -> dict[str, np.ndarray]:
        a = G.sum(axis=1).astype(float)
        return {m: {"a": a, "b": a**2}[m] for m in metrics}

    @property
    def fingerprint(self) -> str:
        return "large"

    def known_front(self, objectives: Sequence[Objective]) -> KnownFront | None:
        if not self._known or [str(o) for o in objectives] != ["a:max", "b:min"]:
            return None
        a = np.arange(0, 211.0)
        return KnownFront(np.stack([a, a**2], axis=1), np.array([210.0, 0.0]), np.array([0.0, 210.0**2]))


def test_a_known_front_gives_the_scale_where_networks_cannot_be_listed() -> None:
    problem = TabularProblem(_Large(known=True))
    assert problem.front_known
    scaled = np.arange(211) / 210
    right = np.append((1 - scaled)[::-1][1:], 1.0)
    steps = (right - (1 - scaled)[::-1]) * (1 - scaled[::-1] ** 2)
    assert problem.best_hypervolume == pytest.approx(steps.sum())


def test_without_a_known_front_the_scale_is_sampled_and_says_so() -> None:
    problem = TabularProblem(_Large(known=False))
    assert not problem.front_known
    assert problem.best_hypervolume == 1.0
    assert problem.ideal.tolist() == [210.0, 0.0]  # both ends of the space are in the sample
    again = TabularProblem(_Large(known=False))
    assert again.fingerprint == problem.fingerprint
