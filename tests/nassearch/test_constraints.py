import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nassearch.constraints import OPERATORS, Constraint, parse_constraints
from nassearch.errors import ConfigError

metrics = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,12}(@[A-Za-z0-9_.\-]{1,8})?", fullmatch=True)
numbers = st.floats(allow_nan=False, allow_infinity=False)
constraints = st.one_of(
    st.builds(Constraint, metrics, st.sampled_from(OPERATORS), numbers),
    st.builds(
        Constraint,
        metrics,
        st.sampled_from(OPERATORS),
        st.floats(min_value=1e-6, max_value=1e6),
        st.sampled_from(["largest", "smallest"]),
    ),
)


@settings(deadline=None)
@given(constraints)
def test_text_round_trip(c: Constraint) -> None:
    assert Constraint.parse(str(c)) == c
    assert Constraint.parse(str(c).replace(" ", "")[: len(c.metric)] + "  " + str(c)[len(c.metric) :]) == c


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency_ms <= 20", Constraint("latency_ms", "<=", 20)),
        ("latency_ms@pi<20", Constraint("latency_ms@pi", "<", 20)),
        ("params_m <= 60% of largest", Constraint("params_m", "<=", 60, "largest")),
        ("params_m <= 60%", Constraint("params_m", "<=", 60, "largest")),
        ("params_m < 150 % of smallest", Constraint("params_m", "<", 150, "smallest")),
        ("top1 >= 8e1", Constraint("top1", ">=", 80)),
        ("top1 ≥ 80", Constraint("top1", ">=", 80)),
        ("gain > -.5", Constraint("gain", ">", -0.5)),
    ],
)
def test_forms(text: str, expected: Constraint) -> None:
    assert Constraint.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("latency_ms 20", "no comparison"),
        ("<= 20", "metric is missing"),
        ("latency ms <= 20", "'latency ms'"),
        ("latency_ms <=", "limit is missing"),
        ("latency_ms <= fast", "'fast'"),
        ("latency_ms <= 20ms", "'ms'"),
        ("latency_ms <= 20 of largest", "percentage"),
        ("latency_ms <= 60% of biggest", "'of biggest'"),
        ("latency_ms <= 60% largest", "'largest'"),
        ("latency_ms = 20", "exactly"),
        ("latency_ms == 20", "exactly"),
        ("latency_ms => 20", "'=>'"),
        ("latency_ms != 20", "'!='"),
        ("latency_ms <= 0% of largest", "positive share"),
        ("latency_ms <= 1e999", "finite"),
        ("latency_ms <= nan", "'nan'"),
        ("1 <= latency_ms <= 2", "'1'"),
        ("", "no comparison"),
    ],
)
def test_malformed_texts_name_the_part_and_the_grammar(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match="METRIC <= NUMBER") as error:
        Constraint.parse(text)
    assert part in str(error.value)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="ab <>=%.0123456789eoflargest-", max_size=30)))
@example("a<=" + "9" * 400)
@example("a <= ²")
@example("a <= \u0661")
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    try:
        c = Constraint.parse(text)
    except ConfigError:
        return
    assert Constraint.parse(str(c)) == c


def test_faults_come_together() -> None:
    with pytest.raises(ConfigError) as error:
        parse_constraints(["a = 1", "b <= 2", "c"])
    assert len(error.value.faults) == 2


bounds = {"largest": 10.0, "smallest": 2.0}


def test_resolution_of_shares() -> None:
    assert Constraint.parse("m <= 60%").resolve(bounds).limit == pytest.approx(6.0)
    assert Constraint.parse("m <= 150% of smallest").resolve(bounds).limit == pytest.approx(3.0)
    assert Constraint.parse("m <= 4").resolve().limit == 4.0
    with pytest.raises(ConfigError, match="largest network is not known"):
        Constraint.parse("m <= 60%").resolve({"smallest": 1.0})
    with pytest.raises(ConfigError, match="not known"):
        Constraint.parse("m <= 60%").resolve({"largest": float("nan")})


def test_violation_is_zero_inside_and_grows_outside_in_units_of_the_range() -> None:
    values = np.array([1.0, 4.0, 8.0, 12.0, np.nan])
    np.testing.assert_allclose(Constraint.parse("m <= 4").resolve(bounds).violation(values), [0, 0, 0.5, 1, np.nan])
    np.testing.assert_allclose(Constraint.parse("m >= 8").resolve(bounds).violation(values), [0.875, 0.5, 0, 0, np.nan])
    assert Constraint.parse("m <= 4").resolve(bounds).violation(values).dtype == np.float64


def test_strict_limits_exclude_the_limit() -> None:
    c = Constraint.parse("m < 4").resolve(bounds)
    assert c.satisfied([3.999, 4.0, 4.001, np.nan]).tolist() == [True, False, False, False]
    assert 0 < c.violation([4.0])[0] < c.violation([4.001])[0]


@settings(deadline=None)
@given(constraints.filter(lambda c: c.of is None), st.lists(numbers | st.just(float("nan")), max_size=8))
def test_violations_are_never_negative_and_agree_with_the_comparison(c: Constraint, values: list[float]) -> None:
    compare = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater}[c.op]
    v, array = c.resolve().violation(values), np.array(values, dtype=float)
    failed = np.isnan(array)
    assert (np.isnan(v) == failed).all()
    assert (v[~failed] >= 0).all()
    met = compare(array[~failed], c.number)
    assert (v[~failed][met] == 0).all()
    # A difference below the resolution of the scale may round to zero.
    clear = np.abs(array[~failed] - c.number) > 1e-300
    assert (v[~failed][~met & clear] > 0).all() or abs(c.number) > 1e8
