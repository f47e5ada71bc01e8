"""The conformance suite over every registered predictor."""

from __future__ import annotations

import pytest

from predictors import Predictor, list_predictors, make_predictor
from predictors.conformance import PredictorConformance

# `stack` differs from `auto` in its choice of weights only.
_NAMES = [pytest.param(n, marks=pytest.mark.slow) if n == "stack" else n for n in list_predictors()]


@pytest.fixture(params=_NAMES, autouse=True)
def _each_predictor(request: pytest.FixtureRequest) -> None:
    request.instance.predictor_name = request.param
    if request.param == "mlp":
        # Held-out rows are predicted by two of its networks, new rows by all ten: errors are overestimated.
        request.instance.interval_bounds = (0.87, 0.985)


class TestRegistered(PredictorConformance):
    predictor_name: str

    def make(self, seed: int = 0) -> Predictor:
        # The suite fits several hundred times: fewer training steps than the default keep it short.
        options = {"steps": 120} if self.predictor_name == "mlp" else {}
        return make_predictor(self.predictor_name, seed=seed, **options)


class TestAutoWithEverything(PredictorConformance):
    """`auto` with a network in the stack."""

    def make(self, seed: int = 0) -> Predictor:
        return make_predictor(
            "auto",
            seed=seed,
            models=["ridge", "xgboost", "mlp"],
            model_options={"mlp": {"steps": 60}, "xgboost": {"trees": 60}},
        )

    @pytest.fixture(autouse=True)
    def _each_predictor(self) -> None:
        """Override the module's parametrisation: one pass is enough."""
