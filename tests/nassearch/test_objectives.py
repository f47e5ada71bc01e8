import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nassearch.errors import ConfigError
from nassearch.objectives import Objective, parse_objectives, to_min

metrics = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,12}(@[A-Za-z0-9_.\-]{1,8})?", fullmatch=True)


@settings(deadline=None)
@given(metrics, st.sampled_from(["max", "min"]))
def test_text_round_trip(metric: str, direction: str) -> None:
    objective = Objective(metric, direction)
    assert Objective.parse(str(objective)) == objective
    assert Objective.parse(f"  {metric} : {direction} ") == objective


def test_setting_is_part_of_the_metric() -> None:
    assert Objective.parse("latency_ms@pi:min").metric == "latency_ms@pi"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("top1:up", "'up' is neither 'max' nor 'min'"),
        ("top1:", "neither 'max' nor 'min'"),
        ("top1", "no direction"),
        (":max", "not the name of a metric"),
        ("a b:max", "'a b'"),
        ("latency_ms@:min", "not the name"),
        ("", "no direction"),
    ],
)
def test_malformed_texts_say_what_is_wrong(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match="top1:max") as error:
        Objective.parse(text)
    assert part in str(error.value)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    try:
        objective = Objective.parse(text)
    except ConfigError:
        return
    assert Objective.parse(str(objective)) == objective


def test_faults_come_together() -> None:
    with pytest.raises(ConfigError) as error:
        parse_objectives(["top1:up", "latency_ms", "params_m:min", "params_m:max"])
    assert len(error.value.faults) == 3
    with pytest.raises(ConfigError, match="no objective"):
        parse_objectives([])


def test_to_min_flips_what_is_to_be_large() -> None:
    objectives = parse_objectives(["top1:max", "latency_ms:min"])
    values = np.array([[70.0, 3.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(to_min(values, objectives), [[-70.0, 3.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(objectives[0].to_min(values[:, 0]), [-70.0, np.nan])
    with pytest.raises(ValueError, match=r"\[n, 2\]"):
        to_min(values[:, :1], objectives)


def test_objectives_are_values() -> None:
    assert len({Objective("a", "max"), Objective.parse("a:max")}) == 1
    with pytest.raises(AttributeError):
        Objective("a", "max").direction = "min"  # type: ignore[misc]
