from typing import Any

import numpy as np
import pytest

from nassearch.errors import ConfigError
from nassearch.strategies import list_strategies, make_strategy
from nassearch.strategies.conformance import drive, small_space
from nassearch.strategies.registry import takes_one_objective
from nassearch.strategies.scalarise import scalarised

SINGLE = [n for n in list_strategies() if takes_one_objective(n)]


def test_who_takes_one_objective() -> None:
    assert set(SINGLE) == {"ga", "cmaes", "weaknas"}


@pytest.mark.parametrize("name", SINGLE)
def test_several_objectives_are_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(ConfigError, match=r"optimises one objective; 2 are given.*scalarise=sum"):
        make_strategy(name, small_space(), objectives=["top1:max", "latency_ms:min"])
    with pytest.raises(ConfigError, match="did you mean 'chebyshev'"):
        make_strategy(name, small_space(), objectives=["top1:max", "latency_ms:min"], scalarise="chebychev")


@pytest.mark.parametrize("name", SINGLE)
def test_scalarised_search_improves_all_objectives(name: str) -> None:
    options: dict[str, Any] = {"trees": 30} if name == "weaknas" else {}
    s = make_strategy(
        name, small_space(), objectives=["latency_ms:min", "params_m:min"], scalarise="sum", budget=100, **options
    )
    drive(s, 10, 10)
    assert (s.F[-30:].mean(axis=0) < s.F[:20].mean(axis=0)).all()


def test_values() -> None:
    F = np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0], [2.0, 10.0]])
    np.testing.assert_allclose(scalarised(F, "sum"), [0, 0.5, 1, 0.5])
    np.testing.assert_allclose(scalarised(F, "chebyshev"), [0, 0.55, 1.1, 1.05])
    np.testing.assert_array_equal(scalarised(F[:, :1], "none"), F[:, 0])
    np.testing.assert_allclose(scalarised(np.ones((3, 2)), "sum"), 0)
