"""What every strategy must do, as checks that a test suite runs on each registered one.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
    @pytest.mark.parametrize("name", list_strategies())
    def test_conformance(name, check):
        check(name)

Each check raises AssertionError with what went wrong. The problem is artificial: a space of two stages with depth, an
aliased choice and forbidden combinations, and metrics that are sums over blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.constraints import Constraint
from nassearch.errors import ConfigError
from nassearch.strategies.base import Strategy
from nassearch.strategies.registry import make_strategy, strategy_class, takes_one_objective
from search_spaces import Gene, Rows, SearchSpace
from search_spaces.rows import row_keys, unique_rows

Values = NDArray[np.float64]

# Options under which a check takes seconds, without another path through the strategy.
_LIGHT: dict[str, dict[str, Any]] = {
    "gp": {"redraws": 0},
    "linas-paper": {"evaluations": 200},
    "tpe": {"redraws": 2},
    "weaknas": {"trees": 30, "depth": 6},
}

OBJECTIVES = ("top1:max", "latency_ms:min", "params_m:min", "peak_memory_mb:min")


def small_space() -> SearchSpace:
    """Return a space with depth, inactive genes, an alias and a forbidden combination: a few thousand networks."""
    genes = [Gene("depth", (1, 2, 3), role="depth")]
    for layer in range(3):
        when = {"depth": {d for d in (1, 2, 3) if d > layer}} if layer else {}
        genes.append(Gene(f"ks.{layer}", (3, 5, 7), role="kernel", layer=layer, active_when=when))
        # The largest network must not be the forbidden one.
        widest = 4 if layer else 3
        genes.append(Gene(f"e.{layer}", (2, 3, 4), largest=widest, role="expand", layer=layer, active_when=when))
    activations = ("relu", "hswish", "hard_swish")
    genes.append(Gene("activation", activations, kind="categorical", aliases={"hard_swish": "hswish"}))
    return SearchSpace("conformance", genes, forbidden=[{"ks.0": {7}, "e.0": {4}}])


def tiny_space() -> SearchSpace:
    """Return a space of 12 distinct networks."""
    genes = [
        Gene("a", (1, 2, 3), role="size", layer=0),
        Gene("b", (1, 2, 3), largest=2, role="size", layer=1, active_when={"a": {2, 3}}),
        Gene("c", (0, 1)),
    ]
    return SearchSpace("conformance-tiny", genes, forbidden=[{"a": {3}, "b": {3}}])


def layered_space() -> SearchSpace:
    """Return a space of eight layers of eight sizes each, and a kind: for strategies that move a budget."""
    genes = [Gene(f"size.{i}", tuple(range(1, 9)), role="size", layer=i) for i in range(8)]
    return SearchSpace("conformance-layers", [*genes, Gene("kind", ("a", "b"), kind="categorical")])


# Where the usual space has too few networks for a strategy.
_SPACES: dict[str, Callable[[], SearchSpace]] = {"evoesap": layered_space}


def metrics(G: Rows) -> Values:
    """Return the four objectives of rows of `small_space` in their own units, float64 ``[n, 4]``."""
    weight = np.linspace(1.0, 2.0, G.shape[1])
    work = (G * weight).sum(axis=1)
    top1 = 60.0 + 8.0 * np.log1p(work) + np.cos(G @ np.arange(1.0, G.shape[1] + 1))
    latency = 1.0 + 0.3 * work + 0.2 * (G[:, 1] * G[:, 2])
    params = 0.5 + (G[:, 2::2] * weight[2::2]).sum(axis=1)
    return np.stack([top1, latency, params, 10.0 + 2.0 * G.max(axis=1) + 0.1 * work], axis=1)


def analytic(G: Rows) -> dict[str, Values]:
    """Return the exact metric of the problem: ``params_m``."""
    return {"params_m": metrics(G)[:, 2]}


def drive(
    strategy: Strategy,
    batches: int,
    n: int,
    *,
    failing: Callable[[Rows], NDArray[np.bool_]] | None = None,
) -> list[Rows]:
    """Ask and tell ``batches`` times; rows for which ``failing`` is true are told as failed. Returns the batches."""
    asked = []
    for _ in range(batches):
        rows = strategy.ask(n)
        asked.append(rows)
        told(strategy, rows, failing=failing)
    return asked


def told(
    strategy: Strategy,
    rows: Rows,
    *,
    failing: Callable[[Rows], NDArray[np.bool_]] | None = None,
) -> None:
    """Tell the strategy's objectives of ``rows``, with the violations of its constraints."""
    everything = metrics(rows)
    names = [o.partition(":")[0] for o in OBJECTIVES]
    values = everything[:, [names.index(o.metric) for o in strategy.objectives]]
    V = np.zeros((len(rows), len(strategy.constraints)))
    for j, c in enumerate(strategy.constraints):
        V[:, j] = c.violation(everything[:, names.index(c.metric)])
    if failing is not None and len(rows):
        values[failing(rows)] = np.nan
        V[failing(rows)] = np.nan
    strategy.tell(rows, values, V if strategy.constraints else None)


def _make(name: str, space: SearchSpace | None = None, columns: int | None = None, **arguments: Any) -> Strategy:
    arguments.setdefault("budget", 80)
    columns = columns or (1 if takes_one_objective(name) else 2)
    options = _LIGHT.get(name, {}) | arguments
    space = space or _SPACES.get(name, small_space)()
    return make_strategy(name, space, objectives=OBJECTIVES[:columns], **options)


def _require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _same(a: list[Rows], b: list[Rows]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _check_rows(space: SearchSpace, asked: list[Rows]) -> None:
    """Check that rows are canonical, feasible and without repeats."""
    rows = np.concatenate(asked)
    _require(rows.dtype == np.int64, f"rows must be int64, not {rows.dtype}")
    _require(np.array_equal(space.canonical(rows), rows), "a row is not canonical")
    _require(space.feasible(rows).all(), "a row has a forbidden combination")
    _require(len(unique_rows(rows)) == len(rows), "a row was asked twice")


def check_rows(name: str) -> None:
    """Rows are canonical, feasible, never repeated, and as many as asked for."""
    strategy = _make(name)
    asked = drive(strategy, 8, 7)
    sizes = [len(a) for a in asked]
    _require(sizes == [7] * 8 or (not strategy.fills and max(sizes) <= 7), f"asked for 7 rows, got {sizes}")
    _check_rows(strategy.space, asked)


def check_determinism(name: str) -> None:
    """The same seed gives the same search, whatever the global random state; another seed another one."""
    np.random.seed(1)  # noqa: NPY002 (the point: it must not matter)
    first = drive(_make(name, seed=3), 7, 6)
    np.random.seed(2)  # noqa: NPY002
    second = drive(_make(name, seed=3), 7, 6)
    _require(_same(first, second), "the same seed gave different searches")
    _require(not _same(first, drive(_make(name, seed=4), 7, 6)), "different seeds gave the same search")


def check_replay(name: str) -> None:
    """Replaying any prefix, whole batches or with the last batch in flight, gives the same continuation."""
    original = drive(_make(name), 8, 6)
    for prefix in (1, 3, 5, 7):
        strategy = _make(name)
        for rows in original[:prefix]:
            strategy.replay(rows)
            told(strategy, rows)
        continued = drive(strategy, 8 - prefix, 6)
        _require(_same(continued, original[prefix:]), f"the search differs after a replay of {prefix} batches")


def check_granularity(name: str) -> None:
    """Results told one by one, in the order of asking, give the same search as results told together."""
    strategy, original = _make(name), drive(_make(name), 7, 6)
    for i, rows in enumerate(original):
        _require(np.array_equal(strategy.ask(6), rows), f"batch {i} depends on how results were told")
        for row in rows:
            told(strategy, row[None])


def check_pending(name: str) -> None:
    """Asking again before results are told gives other rows, and results may come late and out of order."""
    strategy = _make(name)
    waiting = [strategy.ask(4) for _ in range(3)]
    asked = list(waiting)
    for _ in range(12):
        told(strategy, waiting.pop(1)[::-1])
        waiting.append(strategy.ask(4))
        asked.append(waiting[-1])
    _check_rows(strategy.space, asked)


def check_warm_start(name: str) -> None:
    """Rows that were never asked can be told before the first ask, and are not asked."""
    strategy = _make(name)
    known = strategy.space.sample(30, np.random.default_rng(5))
    told(strategy, known)
    asked = drive(strategy, 4, 6)
    _check_rows(strategy.space, [known, *asked])


def _knowledge(strategy: Strategy) -> tuple[Rows, dict[str, Values], dict[str, Values]]:
    """Return rows, one metric of half of them as known, and all others as a prior on another scale."""
    rows = strategy.space.sample(40, np.random.default_rng(6))
    everything = metrics(rows)
    names = [o.partition(":")[0] for o in OBJECTIVES]
    known = {names[0]: np.where(np.arange(len(rows)) % 2, everything[:, 0], np.nan)}
    return rows, known, {name: 3.0 * everything[:, j] + 1.0 for j, name in enumerate(names) if j}


def check_knowledge(name: str) -> None:
    """What earlier searches know is asked first, is no evaluation, and is replayable; it is taken at the start only."""
    strategy, again = _make(name, constraints=["latency_ms <= 6"]), _make(name, constraints=["latency_ms <= 6"])
    known = _knowledge(strategy)
    for s in (strategy, again):
        s.warm_start(*known)
    _require(len(strategy.told) == 0, "knowledge was taken for evaluations of this search")
    original = drive(strategy, 7, 6)
    _check_rows(strategy.space, original)
    before = set(row_keys(strategy.space.canonical(known[0])))
    _require(all(k in before for k in row_keys(original[0])), "the first batch is not of the networks known")
    for rows in original[:4]:
        again.replay(rows)
        told(again, rows)
    _require(_same(drive(again, 3, 6), original[4:]), "the search differs after a replay")
    try:
        strategy.warm_start(*known)
    except ValueError:
        return
    raise AssertionError("knowledge is taken in the middle of a search")


def check_failures(name: str) -> None:
    """NaN rows are survived: some, all of the first batches, and all there are."""
    some = _make(name)
    asked = drive(some, 7, 7, failing=lambda G: G[:, 2] == 1)
    _check_rows(some.space, asked)
    late = _make(name)
    asked = drive(late, 3, 7, failing=lambda G: np.ones(len(G), dtype=bool)) + drive(late, 4, 7)
    _check_rows(late.space, asked)
    never = _make(name)
    _check_rows(never.space, drive(never, 7, 7, failing=lambda G: np.ones(len(G), dtype=bool)))


def check_infeasible_start(name: str) -> None:
    """A search in which every network misses a constraint goes on, and finds those that meet a hard one."""
    impossible = _make(name, constraints=["latency_ms <= 0.5"])
    _check_rows(impossible.space, drive(impossible, 7, 7))
    hard = _make(name, constraints=["latency_ms <= 2.0"])
    _check_rows(hard.space, drive(hard, 8, 7))


def check_exhaustion(name: str) -> None:
    """A space smaller than the budget is evaluated completely, once, and then nothing is asked."""
    space = tiny_space()
    strategy = _make(name, space)
    sizes, asked = [], []
    for _ in range(8):
        rows = strategy.ask(5)
        sizes.append(len(rows))
        asked.append(rows)
        values = np.stack([rows.sum(axis=1), rows[:, 0] - rows[:, 1]], axis=1).astype(float)
        strategy.tell(rows, values[:, : len(strategy.objectives)])
    _check_rows(space, asked)
    if not strategy.fills:
        _require(not sizes[-1], f"the search does not end; batches of {sizes}")
        return
    total = space.n_distinct
    _require(sum(sizes) == total, f"{sum(sizes)} of {total} networks were asked; batches of {sizes}")
    full, rest = divmod(total, 5)
    wanted = [5] * full + [rest] * bool(rest)
    _require(sizes[: len(wanted)] == wanted, f"batches of {sizes}; expected full ones until the space is used up")


def check_objectives(name: str) -> None:
    """One to four objectives work, several of them only scalarised where a strategy knows one."""
    for columns in (1, 2, 3, 4):
        options: dict[str, Any] = {}
        if columns > 1 and takes_one_objective(name):
            try:
                _make(name, columns=columns)
            except ConfigError:
                options["scalarise"] = ("sum", "chebyshev")[columns % 2]
            else:
                raise AssertionError(f"{columns} objectives are taken without scalarisation")
        strategy = _make(name, columns=columns, **options)
        _check_rows(strategy.space, drive(strategy, 6, 6))


def check_constraints(name: str) -> None:
    """Several constraints work: on an objective, on an analytic metric, on a metric that is neither."""
    limits = ["latency_ms <= 3.5", "params_m <= 60% of largest", "peak_memory_mb < 14.5"]
    strategy = _make(name, constraints=limits, analytic=analytic)
    asked = drive(strategy, 8, 7)
    _check_rows(strategy.space, asked)
    exact = Constraint.parse("params_m <= 60%").resolve({"largest": float(metrics(strategy.space.largest[None])[0, 2])})
    rows = np.concatenate(asked[-2:] if strategy.probes else asked)
    missed = int((~exact.satisfied(analytic(rows)["params_m"])).sum())
    _require(missed <= 2, f"{missed} of {len(rows)} rows miss a limit that could be computed beforehand")


def check_learns(name: str) -> None:
    """Results matter: told another truth a search asks other rows, not only in another order.

    One that says that it does not learn asks the same rows in the same order.
    """
    honest, inverted = _make(name), _make(name)
    for _ in range(10):
        a, b = honest.ask(7), inverted.ask(7)
        told(honest, a)
        inverted.tell(b, -metrics(b)[:, : len(inverted.objectives)])
    keys = row_keys(honest.told), row_keys(inverted.told)
    if strategy_class(name).learns:
        _require(set(keys[0]) != set(keys[1]), "the search ignores what it is told")
    else:
        _require(keys[0] == keys[1], "the search says that it does not learn, and follows what it is told")


CHECKS: tuple[Callable[[str], None], ...] = (
    check_rows,
    check_determinism,
    check_replay,
    check_granularity,
    check_pending,
    check_warm_start,
    check_knowledge,
    check_failures,
    check_infeasible_start,
    check_exhaustion,
    check_objectives,
    check_constraints,
    check_learns,
)


def run_checks(name: str) -> None:
    """Run all checks on a registered strategy.

    Raises:
        AssertionError: The strategy does not conform.
    """
    for check in CHECKS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            check(name)
