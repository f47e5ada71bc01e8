"""Latency from measured blocks, corrected by what a few whole networks show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np

from predictors.base import Floats, Predictor
from predictors.latency_table import LatencyTable
from predictors.model_errors import InvalidData, InvalidOption
from predictors.quality import calibration_factor, cross_calibrated
from predictors.registry import list_predictors, make_predictor, register_predictor
from predictors.serialization import Record
from predictors.transfer import Transfer, fit_line
from search_spaces import SearchSpaceError, rows_of_features


@register_predictor("table", listed=False)
class TablePredictor(Predictor):
    """The sum of a network's measured blocks, a line through the sums, or that and a learnt residual.

    A network is not quite the sum of its blocks: caches are colder, calls are saved, a compiler fuses across them. A
    line through the sums, or the line and a model of what it leaves, corrects that from a few measured networks; with
    a model, cross-validation chooses among line, line with residual and the model alone (`predictors.transfer`).

    Args:
        seed: Seed of folds and of the model.
        table: A complete `LatencyTable` of the features' space, or its JSON.
        correction: ``"none"`` for the sums as they are, ``"line"``, or the name of the predictor that models the
            residual, e.g. ``"auto"``.
    """

    def __init__(
        self, *, seed: int = 0, table: LatencyTable | Mapping[str, Any] | None = None, correction: str = "auto"
    ) -> None:
        if table is None:
            raise InvalidOption(
                "table: table= must be given, a LatencyTable (LatencyTable.load(FILE) reads what `nassearch measure "
                "--table FILE` wrote)"
            )
        allowed = ["none", "line", *list_predictors()]
        if correction not in allowed:
            raise InvalidOption(f"table: correction must be one of {', '.join(allowed)}, got {correction!r}")
        whole = table if isinstance(table, LatencyTable) else LatencyTable.from_json(table)
        self.table = whole.without_networks()
        self.table.predict(np.empty((0, len(whole.space.genes)), dtype=np.int64))  # refuses one with missing blocks
        self._correction = correction
        self._prior_of_sums: Predictor | None = None
        self._model: Predictor | None = None
        self._line: Transfer | None = None
        self._factor = self._level = 0.0
        super().__init__(seed=seed, table=self.table.to_json(), correction=correction)

    def _fresh(self, target: str | None = None) -> Self:
        return type(self)(seed=self.seed, table=self.table, correction=self._correction)

    @property
    def way(self) -> Literal["sum", "line", "residual", "model"]:
        """What predictions are made of: the sums, a line, a line and a residual, or the model without the table."""
        if self._correction == "none":
            return "sum"
        if self._model is None or self._model.transfer == "line":
            return "line"
        return "residual" if self._model.transfer == "residual" else "model"

    def _sums(self, X: Floats) -> tuple[Floats, Floats]:
        try:
            return self.table.predict(rows_of_features(self.table.space, X))
        except SearchSpaceError as error:
            raise InvalidData(f"table: {error}") from error

    def _sum_predictor(self) -> Predictor:
        if self._prior_of_sums is None:
            self._prior_of_sums = self.table.as_prior()
        return self._prior_of_sums

    def _fit_any(self, X: Floats, y: Floats, prior: Predictor | None = None) -> None:
        super()._fit_any(X, y, prior)
        if self._correction == "none" and self._constant is not None:
            self._constant = None  # equal targets say nothing about other rows: the sums stay as they are
            self._fit(X, y)

    def _fit(self, X: Floats, y: Floats) -> None:
        self._model = self._line = None
        if self._correction == "none":
            mean, spread = self._sums(X)
            error = mean - y
            self._level = float(np.sqrt(np.mean(error**2)))
            std = np.hypot(self._level, spread)
            self._factor = calibration_factor(error, std)
            self._out_of_fold = mean, cross_calibrated(error, std, self._folds)
            self._as_used = mean, self._factor * std
        elif self._correction == "line":
            self._line, self._out_of_fold = fit_line(X, y, self._folds, self._sum_predictor())
        else:
            self._model = make_predictor(self._correction, seed=self.seed)
            self._model._fit_any(X, y, self._sum_predictor())
            self._out_of_fold, self._as_used = self._model._cross_predict(), self._model._held_out_as_used()

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        if self._model is not None:
            return self._model._predict_any(X)
        if self._line is not None:
            return self._line.predict(X)
        mean, spread = self._sums(X)
        return mean, self._factor * np.hypot(self._level, spread)

    def _store(self, record: Record) -> None:
        record.values["factor"], record.values["level"] = self._factor, self._level
        if self._model is not None:
            record.children["model"] = self._model.to_record()
        if self._line is not None:
            self._line.store(record)

    def _restore(self, record: Record) -> None:
        self._factor, self._level = float(record.values["factor"]), float(record.values["level"])
        if self._correction == "line":
            self._line = Transfer.restore(record, self._sum_predictor(), TablePredictor)
        elif self._correction != "none":
            model = make_predictor(self._correction)
            self._model = type(model).from_record(record.children["model"])
