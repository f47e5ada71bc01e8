"""Bounds before a search, and whether constraints can be met within them."""

from __future__ import annotations

import numpy as np
import pytest

from nassearch.constraints import Constraint
from nassearch.devices import KnownDevices
from nassearch.errors import ConfigError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator
from nassearch.executors import ExecutorSettings
from nassearch.executors.local import LocalExecutor
from nassearch.profile import Bounds, analytic_bounds, check_satisfiable, evaluated_bounds, unsatisfiable
from nassearch.tasks import make_task
from supernets import build

BOUNDS = {"macs_m": Bounds(1.0, 10.0, 1.0, 10.0, 100), "latency_ms": Bounds(2.0, 3.0, 1.5, 4.0, 3)}


@pytest.fixture(scope="module")
def net() -> object:
    return build("mobilenetv3-tiny")


def test_analytic_bounds_are_those_of_the_extracted_ends(net) -> None:
    bounds = analytic_bounds(net.space, net)
    for which in ("smallest", "largest"):
        (arch,) = net.space.decode(getattr(net.space, which)[None])
        params = sum(p.numel() for p in net.extract(arch).parameters()) / 1e6
        assert getattr(bounds["params_m"], which) == pytest.approx(params, abs=1e-12)
    for b in bounds.values():
        assert b.least == b.smallest < b.largest == b.most
        assert b.n_sampled == 10_000


def test_evaluated_bounds_cover_both_ends_and_the_sample(net, small_task: str) -> None:
    evaluator = SupernetEvaluator(net, make_task(small_task), EvaluationSettings(("top1",), {}, 64, 32))
    executor = LocalExecutor(evaluator, ExecutorSettings())

    def measured() -> tuple[dict[str, Bounds], float]:
        return evaluated_bounds(executor, net.space, ["top1", "macs_m"], n_sampled=2, seed=0, devices=KnownDevices())

    bounds, seconds = measured()
    (largest,) = net.space.decode(net.space.largest[None])
    assert bounds["top1"].largest == evaluator.quality(largest).values["top1"]
    assert bounds["macs_m"].smallest < bounds["macs_m"].largest
    assert bounds["top1"].least <= min(bounds["top1"].smallest, bounds["top1"].largest)
    assert seconds > 0
    assert measured()[0] == bounds


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("macs_m <= 1", True),
        ("macs_m < 1", False),
        ("macs_m <= 0.99", False),
        ("macs_m >= 10", True),
        ("macs_m > 10", False),
        ("macs_m <= 10% of largest", True),
        ("macs_m <= 9% of largest", False),
        ("macs_m >= 1000% of smallest", True),
        ("latency_ms <= 1.6", True),  # a sampled network may be beyond both ends
        ("latency_ms <= 1.4", False),
        ("unknown_ms <= 0", True),  # nothing is known of it: nothing is refused
    ],
)
def test_a_constraint_outside_the_bounds_cannot_be_met(text: str, possible: bool) -> None:
    faults = unsatisfiable([Constraint.parse(text)], BOUNDS)
    assert (not faults) == possible
    for fault in faults:
        assert "for the smallest" in fault
        assert "for the largest" in fault


def test_all_unsatisfiable_constraints_come_at_once() -> None:
    constraints = [Constraint.parse(t) for t in ("macs_m <= 0.5", "latency_ms >= 9", "macs_m >= 2")]
    with pytest.raises(ConfigError) as caught:
        check_satisfiable(constraints, BOUNDS)
    assert len(caught.value.faults) == 2
    assert np.all(["1 to 10" in caught.value.faults[0], "1.5 to 4" in caught.value.faults[1]])
