"""Names, options and their suggestions; lazy imports."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import predictors
from predictors import list_predictors, make_predictor, register_predictor
from predictors.model_errors import InvalidOption, PredictorError, UnknownPredictor
from predictors.models import Ridge


def test_built_in_predictors_are_listed() -> None:
    assert {"auto", "mlp", "ridge", "svr", "xgboost"} <= set(list_predictors())
    assert list_predictors("r*") == ["ridge"]


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownPredictor, match=r"did you mean 'xgboost'.*available: auto"):
        make_predictor("xgbost")


def test_unknown_option_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(InvalidOption, match=r"no option 'tree'; did you mean 'trees'\?; its options: seed, trees"):
        make_predictor("xgboost", tree=3)


@pytest.mark.parametrize(
    ("name", "options", "fragment"),
    [
        ("ridge", {"alphas": []}, "alphas must be a list of positive numbers"),
        ("ridge", {"alphas": [1.0, -1.0]}, "got -1.0"),
        ("svr", {"costs": "10"}, "costs must be a list"),
        ("xgboost", {"trees": 0}, "trees must be an integer >= 1, got 0"),
        ("xgboost", {"subsample": 1.5}, "subsample must be a number > 0 and <= 1, got 1.5"),
        ("xgboost", {"learning_rate": float("nan")}, "learning_rate must be"),
        ("mlp", {"members": 1}, "members must be an integer >= 2"),
        ("mlp", {"hidden": True}, "hidden must be an integer"),
        ("auto", {"models": []}, "models must be one or several"),
        ("auto", {"models": ["auto"]}, "other than 'auto'"),
        ("auto", {"models": ["ridge", "ridge"]}, "different predictors"),
        ("auto", {"model_options": {"mlp": {}}}, "not among its models"),
        ("ridge", {"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_bad_option_values_are_named(name: str, options: dict[str, object], fragment: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        make_predictor(name, **options)
    assert fragment in str(raised.value)


def test_options_of_members_are_checked_when_auto_is_made() -> None:
    with pytest.raises(InvalidOption, match="'tres'; did you mean 'trees'"):
        make_predictor("auto", model_options={"xgboost": {"tres": 5}})
    with pytest.raises(UnknownPredictor, match="did you mean 'ridge'"):
        make_predictor("auto", models=["rigde"])


def test_a_taken_name_and_a_class_that_is_no_predictor_are_refused() -> None:
    with pytest.raises(PredictorError, match="'ridge' is registered already"):
        register_predictor("ridge")(Ridge)
    with pytest.raises(PredictorError, match="not a subclass of Predictor"):
        register_predictor("dict")(dict)  # type: ignore[type-var]


def test_repr_tells_name_options_and_state() -> None:
    p = make_predictor("ridge", alphas=[1.0])
    assert repr(p) == "<ridge predictor, seed=0, products=0, target='raw', alphas=[1.0]; not fitted>"
    assert "fitted on 3 rows" in repr(p.fit(np.eye(3), np.arange(3.0)))


def test_importing_and_listing_load_no_heavy_library() -> None:
    code = (
        "import sys, predictors; predictors.make_predictor('auto'); predictors.list_predictors();"
        "print([m for m in ('torch', 'sklearn', 'xgboost', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_exported_name_exists() -> None:
    for name in predictors.__all__:
        assert getattr(predictors, name) is not None
    assert set(predictors.__all__) <= set(dir(predictors))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = predictors.nothing
