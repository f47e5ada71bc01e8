import warnings
from collections.abc import Callable

import numpy as np
import pytest

from nassearch.strategies import Strategy, list_strategies, make_strategy, register_strategy
from nassearch.strategies import registry as registry_module
from nassearch.strategies.conformance import (
    CHECKS,
    OBJECTIVES,
    check_determinism,
    check_learns,
    check_rows,
    drive,
    small_space,
    told,
)
from search_spaces import Rows

pytestmark = pytest.mark.filterwarnings("ignore:linas evolves")


# Each proposal of Optuna's Gaussian process takes a good part of a second: the whole suite would take a quarter of an
# hour. Its adapter is that of `tpe`, which passes all of it; the test below is about what is its own.
_TOO_SLOW = "gp"


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", [n for n in list_strategies() if n != _TOO_SLOW])
def test_conformance(name: str, check: Callable[[str], None]) -> None:
    check(name)


@pytest.mark.slow
def test_the_gaussian_process_is_deterministic_and_goes_on_after_a_replay() -> None:
    def make() -> Strategy:
        return make_strategy(_TOO_SLOW, small_space(), objectives=OBJECTIVES[:2], seed=0, startup=4, redraws=0)

    original = drive(make(), 4, 2)
    resumed = make()
    for rows in original[:3]:
        resumed.replay(rows)
        told(resumed, rows)
    np.testing.assert_array_equal(resumed.ask(2), original[3])
    assert len(np.unique(np.concatenate(original), axis=0)) == 8


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


def test_suite_catches_what_only_reorders_and_what_learns_in_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order of the same rows is no learning; and a strategy that says it does not learn must not."""
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))

    @register_strategy("reorders")
    class Reorders(Strategy):
        def _propose(self, n: int, rng: np.random.Generator) -> Rows:
            rows = self.random_rows(n, rng)
            return rows[::-1] if self.F[:, 0].sum() < 0 else rows

    @register_strategy("secret")
    class Secret(Strategy):
        learns = False

        def _propose(self, n: int, rng: np.random.Generator) -> Rows:
            return self.random_rows(n, np.random.default_rng(int(self.F.sum()) & 0xFFFF))

    with pytest.raises(AssertionError, match="ignores"):
        check_learns("reorders")
    with pytest.raises(AssertionError, match="says that it does not learn"):
        check_learns("secret")


def test_problem_has_what_it_is_meant_to_exercise() -> None:
    space = small_space()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = space.sample(200, np.random.default_rng(0))
    assert not space.active(rows).all()
    assert space.n_distinct < space.n_genotypes
