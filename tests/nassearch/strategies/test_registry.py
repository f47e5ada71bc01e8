import numpy as np
import pytest

from nassearch.errors import ConfigError
from nassearch.strategies import list_strategies, make_strategy, register_strategy, strategy_options, strategy_summary
from nassearch.strategies.conformance import analytic, metrics, small_space
from nassearch.strategies.random import RandomSearch

OBJECTIVES = ["top1:max", "latency_ms:min"]


def test_listing() -> None:
    assert {"linas", "nsga2", "random"} <= set(list_strategies())
    for name in list_strategies():
        assert strategy_summary(name)
    assert strategy_options("random") == {}
    assert strategy_options("nsga2")["population"] == 50


def test_unknown_names_are_refused_with_suggestions() -> None:
    with pytest.raises(ConfigError, match="did you mean 'linas'"):
        make_strategy("lynas", small_space(), objectives=OBJECTIVES)
    with pytest.raises(ConfigError, match=r"no option 'popluation'.*did you mean 'population'"):
        make_strategy("nsga2", small_space(), objectives=OBJECTIVES, popluation=3)
    with pytest.raises(ConfigError) as error:
        make_strategy("random", small_space(), objectives=OBJECTIVES, a=1, b=2)
    assert len(error.value.faults) == 2


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nsga2", {"population": 1}),
        ("nsga2", {"population": 2.5}),
        ("nsga2", {"population": True}),
        ("nsga2", {"crossover": 1.5}),
        ("nsga2", {"mutation": 0}),
        ("nsga2", {"landmarks": "yes"}),
        ("linas", {"predictor": "oracle"}),
        ("linas", {"explore": -0.1}),
        ("linas", {"startup": "many"}),
        ("random", {"seed": -1}),
        ("random", {"seed": 0.5}),
        ("random", {"budget": 0}),
        ("random", {"objectives": ["top1:up"]}),
        ("random", {"objectives": []}),
        ("random", {"constraints": ["latency_ms = 3"]}),
        ("random", {"constraints": ["latency_ms <= 60%"]}),
    ],
)
def test_bad_arguments_are_refused(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_strategy(name, small_space(), **{"objectives": OBJECTIVES, **arguments})  # type: ignore[arg-type]


def test_names_are_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register_strategy("random")(RandomSearch)


def test_relative_constraints_on_analytic_metrics_resolve_themselves() -> None:
    space = small_space()
    s = make_strategy(
        "random", space, objectives=OBJECTIVES, constraints=["params_m <= 50% of largest"], analytic=analytic
    )
    assert s.constraints[0].limit == pytest.approx(0.5 * metrics(space.largest[None])[0, 2])
    rows = s.ask(20)
    assert (analytic(rows)["params_m"] <= s.constraints[0].limit).all()


def test_tell_checks_shapes_and_computes_the_violations_it_can() -> None:
    space = small_space()
    s = make_strategy(
        "random",
        space,
        objectives=OBJECTIVES,
        constraints=["latency_ms <= 2", "params_m <= 3"],
        analytic=analytic,
    )
    rows = s.ask(5)
    with pytest.raises(ValueError, match=r"\[5, 2\]"):
        s.tell(rows, np.zeros((5, 1)))
    with pytest.raises(ValueError, match="one column a constraint"):
        s.tell(rows, np.zeros((5, 2)), np.zeros((5, 1)))
    values = metrics(rows)
    s.tell(rows, values[:, :2])
    expected = [c.violation(values[:, j]) for c, j in zip(s.constraints, (1, 2), strict=True)]
    np.testing.assert_allclose(s.V, np.stack(expected, axis=1))
    other = make_strategy("random", space, objectives=OBJECTIVES, constraints=["peak_memory_mb <= 3"])
    with pytest.raises(ValueError, match="peak_memory_mb"):
        other.tell(rows, values[:, :2])
    with pytest.raises(ValueError, match="at least"):
        s.ask(0)


def test_a_row_told_again_replaces_the_old_result() -> None:
    s = make_strategy("random", small_space(), objectives=OBJECTIVES)
    rows = s.ask(3)
    s.tell(rows, np.ones((3, 2)))
    s.tell(rows[1:2], np.array([[5.0, 6.0]]))
    assert len(s.told) == 3
    np.testing.assert_array_equal(s.F[1], [-5.0, 6.0])
    assert not len(s.pending)
    assert s.diagnostics()["told"] == 3
