import warnings
from collections.abc import Callable

import numpy as np
import pytest

from nassearch.strategies import Strategy, list_strategies, register_strategy
from nassearch.strategies import registry as registry_module
from nassearch.strategies.conformance import (
    CHECKS,
    check_determinism,
    check_exhaustion,
    check_learns,
    check_replay,
    check_rows,
    small_space,
)
from search_spaces import Rows

pytestmark = pytest.mark.filterwarnings("ignore:linas evolves")


# Each proposal of Optuna's Gaussian process takes a good part of a second: the whole suite would take a quarter of an
# hour. Its adapter is that of `tpe`, which passes all of it; these checks are about what is its own.
_SLOW = {"gp": (check_determinism, check_replay, check_exhaustion)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", [n for n in list_strategies() if n not in _SLOW])
def test_conformance(name: str, check: Callable[[str], None]) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), [(n, c) for n, checks in _SLOW.items() for c in checks])
def test_conformance_of_slow_strategies(name: str, check: Callable[[str], None]) -> None:
    check(name)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    """A strategy with the usual faults: the global random state, repeats, deaf to results."""
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))

    @register_strategy("broken")
    class Broken(Strategy):
        def ask(self, n: int) -> Rows:
            self.batch += 1
            return self.space.canonical(np.random.randint(0, 2, size=(n, len(self.space.genes))))  # noqa: NPY002

        def _propose(self, n: int, rng: np.random.Generator) -> Rows:
            raise AssertionError("not used")

    return "broken"


def test_suite_catches_a_broken_strategy(broken: str) -> None:
    with pytest.raises(AssertionError, match=r"twice|forbidden"):
        check_rows(broken)
    with pytest.raises(AssertionError, match="same seed"):
        check_determinism(broken)


def test_suite_catches_a_deaf_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))

    @register_strategy("deaf")
    class Deaf(Strategy):
        def _propose(self, n: int, rng: np.random.Generator) -> Rows:
            return self.random_rows(n, rng)

    with pytest.raises(AssertionError, match="ignores"):
        check_learns("deaf")


def test_problem_has_what_it_is_meant_to_exercise() -> None:
    space = small_space()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = space.sample(200, np.random.default_rng(0))
    assert not space.active(rows).all()
    assert space.n_distinct < space.n_genotypes
