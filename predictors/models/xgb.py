"""Gradient-boosted trees, regularised for tens to hundreds of rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from predictors.base import Floats, Predictor
from predictors.models.fold_ensemble import FoldEnsemble
from predictors.models.options import choice, real, whole
from predictors.models.ranking import LOSSES, Calibration
from predictors.models.scaling import Scaler
from predictors.registry import register_predictor
from predictors.serialization import Record
from predictors.targets import TARGETS

# Columns that a split may choose from at least: a share of a handful of features would be one at random.
_LEAST_COLUMNS = 8
_PAIRS_A_ROW = 8  # drawn for each row and tree, for the ranking loss


@register_predictor("xgboost")
class XGBoost(Predictor):
    """XGBoost (Chen and Guestrin, KDD 2016); one booster a fold, each fitted without that fold.

    The mean over boosters is the prediction; their spread and the out-of-fold residuals give the standard
    deviation.

    Args:
        seed: Seed of folds, row and column subsampling.
        trees: Number of trees of a booster.
        depth: Greatest depth of a tree.
        learning_rate: Shrinkage of each tree.
        colsample: Share of the features that a split may choose from, eight at least.
        subsample: Share of the rows that a tree sees.
        min_child_weight: Least number of rows in a leaf.
        reg_lambda: L2 penalty of leaf values.
        loss: "squared", or "rank": pairs in the right order (LambdaMART, Burges, 2010), with a line through the
            training rows to the unit of the target.
        target: "raw", "log", or "auto": whichever predicts held-out rows better.
        n_jobs: Threads; more are faster on thousands of rows only.
    """

    _mean_chunk: ClassVar[int] = 8192  # a booster reads its trees anew for each chunk

    def __init__(
        self,
        *,
        seed: int = 0,
        trees: int = 150,
        depth: int = 3,
        learning_rate: float = 0.16,
        colsample: float = 0.3,
        subsample: float = 0.8,
        min_child_weight: float = 2.0,
        reg_lambda: float = 1.0,
        loss: str = "squared",
        target: str = "raw",
        n_jobs: int = 1,
    ) -> None:
        super().__init__(
            seed=seed,
            trees=whole(self.name, "trees", trees, at_least=1),
            depth=whole(self.name, "depth", depth, at_least=1),
            learning_rate=real(self.name, "learning_rate", learning_rate, at_most=1.0),
            colsample=real(self.name, "colsample", colsample, at_most=1.0),
            subsample=real(self.name, "subsample", subsample, at_most=1.0),
            min_child_weight=real(self.name, "min_child_weight", min_child_weight),
            reg_lambda=real(self.name, "reg_lambda", reg_lambda),
            loss=choice(self.name, "loss", loss, LOSSES),
            target=choice(self.name, "target", target, TARGETS),
            n_jobs=whole(self.name, "n_jobs", n_jobs, at_least=1),
        )

    def _fit(self, X: Floats, y: Floats) -> None:
        import xgboost

        self._scaler = Scaler.fit(X, y)
        scaled = self._scaler.features(X).astype(np.float32)
        targets = self._scaler.targets(y)
        left_out = np.unique(self._folds)
        self._boosters = []
        ranking = self.options["loss"] == "rank"
        for fold in left_out:
            kept = self._folds != fold
            # Relevances may not be negative; how far apart they are does not matter.
            labels = targets[kept] - targets.min() if ranking else targets[kept]
            data = xgboost.DMatrix(scaled[kept], labels, nthread=self.options["n_jobs"])
            if ranking:
                data.set_group([int(kept.sum())])
            self._boosters.append(xgboost.train(self._parameters(int(fold)), data, self.options["trees"]))
        seen = left_out[:, None] != self._folds
        self._calibration = Calibration.fit(self._scores(scaled), targets, seen) if ranking else None
        members = self._members(scaled)
        self._ensemble, mean, std, used = FoldEnsemble.fit(members, left_out, targets, self._folds)
        self._out_of_fold, self._as_used = self._scaler.unscaled(mean, std), self._scaler.unscaled(mean, used)

    def _parameters(self, member: int) -> dict[str, Any]:
        o = self.options
        loss = {"objective": "reg:squarederror"}
        if o["loss"] == "rank":
            pairs = min(_PAIRS_A_ROW, len(self._folds) - 1)
            loss = {"objective": "rank:pairwise", "lambdarank_pair_method": "mean"}
            loss |= {"lambdarank_num_pair_per_sample": str(pairs), "lambdarank_normalization": "0"}
        return loss | {
            "base_score": 0.0,  # targets are centred
            "tree_method": "hist",
            "device": "cpu",
            "max_bin": 64,
            "max_depth": o["depth"],
            "eta": o["learning_rate"],
            "colsample_bynode": max(o["colsample"], min(1.0, _LEAST_COLUMNS / self._scaler.features_used)),
            "subsample": o["subsample"],
            "min_child_weight": o["min_child_weight"],
            "lambda": o["reg_lambda"],
            "nthread": o["n_jobs"],
            "seed": (self.seed * 1009 + member) % 2**31,
            "verbosity": 0,
        }

    def _members(self, scaled: NDArray[np.float32]) -> Floats:
        """Return the boosters' predictions of scaled rows, float64 ``[m, n]``."""
        scores = self._scores(scaled)
        return scores if self._calibration is None else self._calibration(scores)

    def _scores(self, scaled: NDArray[np.float32]) -> Floats:
        return np.stack([b.inplace_predict(scaled) for b in self._boosters]).astype(np.float64)

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        members = self._members(self._scaler.features(X).astype(np.float32))
        return self._scaler.unscaled(*self._ensemble.combine(members))

    def _predict_mean(self, X: NDArray[np.floating[Any]]) -> Floats:
        members = self._members(self._scaler.features(X.astype(np.float64)).astype(np.float32))
        mean: Floats = self._scaler.y_mean + self._scaler.y_scale * members.mean(axis=0)
        return mean

    def _store(self, record: Record) -> None:
        self._scaler.store(record)
        record.arrays["ensemble"] = np.array([self._ensemble.noise, self._ensemble.factor])
        if self._calibration is not None:
            self._calibration.store(record)
        for i, booster in enumerate(self._boosters):
            record.texts[f"booster-{i:03d}"] = booster.save_raw("json").decode("utf-8")

    def _restore(self, record: Record) -> None:
        import xgboost

        self._scaler = Scaler.restore(record)
        self._ensemble = FoldEnsemble(*record.arrays["ensemble"].tolist())
        self._calibration = Calibration.restore(record) if self.options["loss"] == "rank" else None
        self._boosters = []
        for name in sorted(record.texts):
            booster = xgboost.Booster({"nthread": self.options["n_jobs"], "device": "cpu"})
            booster.load_model(bytearray(record.texts[name], "utf-8"))
            self._boosters.append(booster)
