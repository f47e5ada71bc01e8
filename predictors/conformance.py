# ruff: noqa: S101  (assertions are what a test suite is made of)
"""What every predictor must do, as one test class to subclass; pytest collects the inherited tests.

Example:
    In a test file::

        class TestMine(PredictorConformance):
            def make(self, seed: int = 0) -> Predictor:
                return make_predictor("mine", seed=seed)
"""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from predictors.base import Floats, Predictor
from predictors.model_errors import InvalidData, InvalidOption, NotFitted, PredictorFileError
from predictors.quality import Quality
from predictors.registry import load_predictor

_BINARY_FEATURES = 24


def synthetic_problem(n: int, seed: int, *, noise: float = 0.05) -> tuple[Floats, Floats]:
    """Return one-hot-like and real features with targets that have linear terms and one interaction.

    Args:
        n: Number of rows.
        seed: Seed of rows and noise; the underlying function is always the same.
        noise: Standard deviation of the noise, relative to that of the targets.

    Returns:
        Features float64 ``[n, 26]`` and targets float64 ``[n]``, around 70 with standard deviation near 2.5.
    """
    rng = np.random.default_rng(seed)
    binary = (rng.random((n, _BINARY_FEATURES)) < 0.5).astype(np.float64)
    real = rng.uniform(0.0, 1.0, size=(n, 2))
    slopes = np.linspace(0.2, 1.4, _BINARY_FEATURES) * np.where(np.arange(_BINARY_FEATURES) % 3 == 0, -1.0, 1.0)
    clean = 70.0 + binary @ slopes + 2.0 * real[:, 0] + 2.0 * real[:, 0] * binary[:, -1]
    return np.hstack([binary, real]), clean + noise * clean.std() * rng.normal(size=n)


def held_out_error(predictor: Predictor, X: Floats, y: Floats) -> float:
    """Return the root mean squared error of predictions of ``X``."""
    return float(np.sqrt(np.mean((predictor.predict(X)[0] - y) ** 2)))


class PredictorConformance:
    """Tests that every predictor passes. Subclass it and implement `make`."""

    least_tau = 0.8
    """Kendall's tau to reach on `synthetic_problem`: 150 rows, 400 held out."""
    coverage_bounds = (0.80, 0.99)
    """Bounds of the held-out coverage of the nominal 90 % interval there."""

    interval_bounds = (0.87, 0.95)
    """Bounds of the mean held-out coverage of `Predictor.interval` at 0.9, from 300 rows."""

    @abstractmethod
    def make(self, seed: int = 0) -> Predictor:
        """Return a new, unfitted predictor."""

    # -- quality of predictions ----------------------------------------------------------------------

    def test_ranks_rows_that_it_has_not_seen(self) -> None:
        """Tau, error against the mean as predictor, and coverage on held-out rows."""
        from scipy.stats import kendalltau

        X, y = synthetic_problem(150, seed=0)
        unseen, truth = synthetic_problem(400, seed=1)
        mean, std = self.make().fit(X, y).predict(unseen)
        assert mean.shape == std.shape == (400,)
        assert mean.dtype == std.dtype == np.float64
        assert kendalltau(mean, truth).statistic > self.least_tau
        assert np.mean((mean - truth) ** 2) < 0.25 * np.var(truth)
        covered = np.mean(np.abs(mean - truth) <= 1.645 * std)
        assert self.coverage_bounds[0] <= covered <= self.coverage_bounds[1]

    def test_quality_tells_what_held_out_rows_show(self) -> None:
        """Fields are sane, near the truth, cached, and survive JSON."""
        X, y = synthetic_problem(150, seed=0)
        predictor = self.make().fit(X, y)
        quality = predictor.quality
        assert predictor.quality is quality
        assert quality.n == 150
        assert quality.folds == 5
        assert self.least_tau - 0.1 < quality.kendall_tau <= 1.0
        assert quality.kendall_tau <= quality.spearman <= 1.0
        assert 0.0 < quality.mape < 5.0
        assert 0.0 < quality.rmse < y.std()
        assert self.coverage_bounds[0] <= quality.coverage <= self.coverage_bounds[1]
        assert quality.ranks_better_than_chance
        assert Quality.from_json(json.loads(json.dumps(quality.to_json()))) == quality

    def test_random_targets_do_not_look_predictable(self) -> None:
        """Cross-validation is honest: tau of noise is near 0, not near 1."""
        X, y = synthetic_problem(60, seed=2)
        shuffled = np.random.default_rng(3).permutation(y)
        quality = self.make().fit(X, shuffled).quality
        assert math.isnan(quality.kendall_tau) or abs(quality.kendall_tau) < 0.35

    def test_targets_in_any_unit(self) -> None:
        """Predictions follow the unit of the targets."""
        X, y = synthetic_problem(60, seed=0)
        mean, std = self.make().fit(X, y).predict(X)
        for factor in (1e-6, 1e6):
            scaled_mean, scaled_std = self.make().fit(X, factor * y).predict(X)
            np.testing.assert_allclose(scaled_mean, factor * mean, rtol=1e-3)
            np.testing.assert_allclose(scaled_std, factor * std, rtol=0.1)

    def test_learning_curve(self) -> None:
        """Held-out quality rises with the rows trained on; its end is the quality itself; it is computed once."""
        X, y = synthetic_problem(50, seed=0)
        predictor = self.make().fit(X, y)
        curve = predictor.quality.learning_curve
        assert [p.n for p in curve] == [10, 20, 30, 45]
        assert curve[-1].kendall_tau == predictor.quality.kendall_tau
        assert curve[-1].mape == predictor.quality.mape
        assert curve[-1].kendall_tau > curve[0].kendall_tau
        assert predictor.quality.learning_curve is curve

    # -- intervals -----------------------------------------------------------------------------------

    def test_intervals_cover_what_they_state(self) -> None:
        """Mean coverage over training sets is near what was asked for, and not below."""
        covered: dict[float, list[float]] = {0.5: [], 0.9: []}
        for seed in range(3):
            X, y = synthetic_problem(300, seed=10 + seed)
            unseen, truth = synthetic_problem(1000, seed=20 + seed)
            predictor = self.make(seed=seed).fit(X, y)
            for coverage, shares in covered.items():
                low, high = predictor.interval(unseen, coverage)
                shares.append(float(np.mean((low <= truth) & (truth <= high))))
        assert self.interval_bounds[0] <= np.mean(covered[0.9]) <= self.interval_bounds[1]
        assert 0.46 <= np.mean(covered[0.5]) < 0.85

    def test_intervals_widen_with_coverage(self) -> None:
        """From few to many rows, and beyond what the rows can show, without becoming infinite."""
        X, y = synthetic_problem(40, seed=0)
        for n in (2, 3, 8, 40):
            predictor = self.make().fit(X[:n], y[:n])
            mean, _ = predictor.predict(X)
            widths = []
            for coverage in (0.1, 0.5, 0.9, 0.99, 0.9999):
                low, high = predictor.interval(X, coverage)
                assert low.shape == high.shape == (40,)
                np.testing.assert_allclose(0.5 * (low + high), mean, rtol=1e-9, atol=1e-9)
                widths.append(high - low)
            assert np.isfinite(widths).all()
            assert (np.diff(widths, axis=0) >= -1e-9).all()

    def test_bad_coverages_are_refused(self) -> None:
        """Percentages and the ends of the range raise `InvalidOption`."""
        X, y = synthetic_problem(10, seed=0)
        predictor = self.make().fit(X, y)
        for bad in (0.0, 1.0, 90, -0.1, float("nan"), "0.9", True):
            with pytest.raises(InvalidOption, match="between 0 and 1"):
                predictor.interval(X, bad)  # type: ignore[arg-type]
        _raises(NotFitted, "before fit", lambda p: p.interval(X), self.make())

    # -- transfer ------------------------------------------------------------------------------------

    def test_a_related_prior_beats_scratch(self, tmp_path: Path) -> None:
        """A device that is a power of another one plus a difference of its own: 20 rows suffice; files keep it."""
        X, y = synthetic_problem(150, seed=0)
        unseen, truth = synthetic_problem(300, seed=1)
        prior = self.make().fit(X, y)
        ratios = []
        for seed in range(2):
            few, target = synthetic_problem(20, seed=40 + seed)
            with_prior = self.make().fit(few, _other_device(few, target), prior=prior)
            scratch = self.make().fit(few, _other_device(few, target))
            other = _other_device(unseen, truth)
            ratios.append(held_out_error(with_prior, unseen, other) / held_out_error(scratch, unseen, other))
        assert scratch.transfer == "none"
        assert with_prior.transfer in ("line", "residual")
        assert np.mean(ratios) < 0.75
        with_prior.save(tmp_path / "p")
        loaded = load_predictor(tmp_path / "p")
        assert loaded.transfer == with_prior.transfer
        for coverage in (0.5, 0.9):
            for a, b in zip(with_prior.interval(unseen, coverage), loaded.interval(unseen, coverage), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_an_unrelated_prior_does_little_harm(self) -> None:
        """A prior that learnt noise: cross-validation leaves it aside, or next to."""
        X, y = synthetic_problem(100, seed=0)
        unseen, truth = synthetic_problem(300, seed=1)
        prior = self.make().fit(X, np.random.default_rng(0).permutation(y))
        ratios = []
        for seed in range(2):
            few, target = synthetic_problem(30, seed=50 + seed)
            with_prior = self.make().fit(few, target, prior=prior)
            scratch = self.make().fit(few, target)
            ratios.append(held_out_error(with_prior, unseen, truth) / held_out_error(scratch, unseen, truth))
        assert np.mean(ratios) < 1.15

    def test_bad_priors_are_refused(self) -> None:
        """Not a predictor, not fitted, of other features, the predictor itself."""
        X, y = synthetic_problem(10, seed=0)
        narrow = self.make().fit(X[:, :5], y)
        fitted = self.make().fit(X, y)
        _raises(InvalidData, "not fitted", lambda p: p.fit(X, y, prior=self.make()), self.make())
        _raises(InvalidData, "5 features", lambda p: p.fit(X, y, prior=narrow), self.make())
        _raises(InvalidData, "its own prior", lambda p: p.fit(X, y, prior=p), fitted)
        _raises(InvalidData, "got a str", lambda p: p.fit(X, y, prior="gp"), self.make())  # type: ignore[arg-type]

    # -- determinism ---------------------------------------------------------------------------------

    def test_deterministic_given_seed_and_data(self) -> None:
        """Two fits agree to the bit, in predictions and quality; a refit forgets the earlier data."""
        X, y = synthetic_problem(40, seed=0)
        other_X, other_y = synthetic_problem(30, seed=5)
        first, second = self.make(seed=3).fit(X, y), self.make(seed=3).fit(other_X, other_y).fit(X, y)
        for a, b in zip(first.predict(other_X), second.predict(other_X), strict=True):
            np.testing.assert_array_equal(a, b)
        assert first.quality == second.quality

    def test_global_random_state_is_left_alone(self) -> None:
        """Neither NumPy's nor PyTorch's global generator is read or changed."""
        import torch

        X, y = synthetic_problem(30, seed=0)
        predictions = []
        for global_seed in (0, 1):
            np.random.seed(global_seed)  # noqa: NPY002  (the legacy global state is what is tested)
            torch.manual_seed(global_seed)
            before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
            predictions.append(self.make().fit(X, y).predict(X)[0])
            assert torch.equal(torch.get_rng_state(), before[0])
            np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index] # noqa: NPY002
        np.testing.assert_array_equal(predictions[0], predictions[1])

    def test_data_are_copied_and_left_alone(self) -> None:
        """Inputs are not written to, and later changes to them do not reach the predictor."""
        X, y = synthetic_problem(30, seed=0)
        X_given, y_given = X.copy(), y.copy()
        predictor = self.make().fit(X_given, y_given)
        np.testing.assert_array_equal(X_given, X)
        np.testing.assert_array_equal(y_given, y)
        expected = predictor.predict(X)[0]
        X_given[:], y_given[:] = 0.0, 0.0
        np.testing.assert_array_equal(predictor.predict(X)[0], expected)
        assert predictor.quality == self.make().fit(X, y).quality

    # -- awkward data --------------------------------------------------------------------------------

    def test_constant_targets(self) -> None:
        """Predicted exactly, with standard deviation 0; rank correlations are undefined."""
        X, _ = synthetic_problem(20, seed=0)
        predictor = self.make().fit(X, np.full(20, 0.1))
        mean, std = predictor.predict(X[:5] + 1.0)
        np.testing.assert_array_equal(mean, np.full(5, 0.1))
        np.testing.assert_array_equal(std, np.zeros(5))
        assert math.isnan(predictor.quality.kendall_tau)
        assert not predictor.quality.ranks_better_than_chance
        assert predictor.quality.mape == 0.0

    def test_a_few_rows(self) -> None:
        """From two rows on, predictions are finite and quality has a value for each row."""
        X, y = synthetic_problem(12, seed=0)
        for n in (2, 3, 4, 7, 12):
            predictor = self.make().fit(X[:n], y[:n])
            self._check_sane(predictor, X, y)
            assert predictor.quality.n == n
            assert predictor.quality.folds == min(n, 10)
            assert 0.0 <= predictor.quality.coverage <= 1.0

    def test_duplicate_rows(self) -> None:
        """Repeated rows, even with contradictory targets, and nothing but copies of one row."""
        X, y = synthetic_problem(15, seed=0)
        repeated = self.make().fit(np.vstack([X, X, X]), np.concatenate([y, y, y + 0.5]))
        self._check_sane(repeated, X, y)
        one_row = self.make().fit(np.repeat(X[:1], 8, axis=0), y[:8])
        self._check_sane(one_row, X, y)
        assert np.ptp(y[:8]) >= abs(one_row.predict(X[:1])[0][0] - y[:8].mean())

    def test_more_features_than_rows_and_constant_columns(self) -> None:
        """Wide data, constant columns (one of them huge), a column that only varies at prediction."""
        X, y = synthetic_problem(20, seed=0)
        rng = np.random.default_rng(0)
        wide = np.hstack([X, rng.normal(size=(20, 100)), np.zeros((20, 1)), np.full((20, 1), 1e9)])
        predictor = self.make().fit(wide, y)
        self._check_sane(predictor, wide, y)
        shifted = wide.copy()
        shifted[:, -2] = 5.0
        self._check_sane(predictor, shifted, y)

    def test_features_of_very_different_units(self) -> None:
        """A column in millions beside one in millionths leaves predictions finite and useful."""
        X, y = synthetic_problem(60, seed=0)
        units = 10.0 ** np.linspace(-6, 6, X.shape[1])
        quality = self.make().fit(X * units, y).quality
        assert quality.kendall_tau > 0.4

    def _check_sane(self, predictor: Predictor, X: Floats, y: Floats) -> None:
        mean, std = predictor.predict(X)
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        assert (std >= 0).all()
        # Not far outside what was seen: these rows are of the same distribution.
        assert np.abs(mean - y.mean()).max() <= 10 * np.ptp(y)

    # -- bad use -------------------------------------------------------------------------------------

    def test_bad_data_are_refused(self) -> None:
        """NaN, infinity, wrong shapes and too few rows raise `InvalidData` with the place or shape."""
        X, y = synthetic_problem(10, seed=0)
        for bad in (np.nan, np.inf, -np.inf):
            self._check_refused(bad, X, y)
        _raises(InvalidData, "10 rows and y has 9", lambda p: p.fit(X, y[:9]), self.make())
        _raises(InvalidData, "at least 2 rows", lambda p: p.fit(X[:1], y[:1]), self.make())
        _raises(InvalidData, "[10]", lambda p: p.fit(X[:, 0], y), self.make())
        _raises(InvalidData, "[10, 1]", lambda p: p.fit(X, y[:, None]), self.make())
        _raises(InvalidData, "numbers", lambda p: p.fit([["a"], ["b"]], [1, 2]), self.make())
        _raises(InvalidData, "26 features", lambda p: p.fit(X, y).predict(X[:, :5]), self.make())

    def _check_refused(self, bad: float, X: Floats, y: Floats) -> None:
        broken_X, broken_y = X.copy(), y.copy()
        broken_X[3, 4], broken_y[7] = bad, bad
        _raises(InvalidData, "row 3, column 4", lambda p: p.fit(broken_X, y), self.make())
        _raises(InvalidData, "row 7", lambda p: p.fit(X, broken_y), self.make())
        _raises(InvalidData, "row 3, column 4", lambda p: p.fit(X, y).predict(broken_X), self.make())

    def test_use_before_fit_is_refused(self) -> None:
        """`predict`, `quality` and `save` raise `NotFitted`."""
        X, _ = synthetic_problem(3, seed=0)
        _raises(NotFitted, "before fit", lambda p: p.predict(X), self.make())
        _raises(NotFitted, "before fit", lambda p: p.quality, self.make())
        _raises(NotFitted, "before fit", lambda p: p.save("never-written"), self.make())
        assert not Path("never-written").exists()

    def test_no_rows_to_predict(self) -> None:
        """An empty population gives empty arrays."""
        X, y = synthetic_problem(10, seed=0)
        mean, std = self.make().fit(X, y).predict(X[:0])
        assert mean.shape == std.shape == (0,)

    # -- files ---------------------------------------------------------------------------------------

    def test_save_and_load_are_equal_to_the_bit(self, tmp_path: Path) -> None:
        """Predictions, quality, seed and options survive, whether or not quality was asked for before."""
        X, y = synthetic_problem(60, seed=0)
        unseen, _ = synthetic_problem(50, seed=1)
        predictor = self.make(seed=4).fit(X, y)
        predictor.save(tmp_path / "before")
        quality = predictor.quality
        predictor.save(tmp_path / "after")
        for folder in ("before", "after"):
            loaded = load_predictor(tmp_path / folder)
            assert type(loaded) is type(predictor)
            assert (loaded.seed, loaded.options) == (4, predictor.options)
            for a, b in zip(predictor.predict(unseen), loaded.predict(unseen), strict=True):
                np.testing.assert_array_equal(a, b)
            assert loaded.quality == quality
            for a, b in zip(predictor.interval(unseen, 0.8), loaded.interval(unseen, 0.8), strict=True):
                np.testing.assert_array_equal(a, b)
        assert not list(tmp_path.rglob("*.pkl"))

    def test_awkward_fits_survive_files(self, tmp_path: Path) -> None:
        """A constant, a two-row and a loaded-then-saved predictor."""
        X, y = synthetic_problem(10, seed=0)
        for name, targets in (("constant", np.full(10, 3.0)), ("pair", y)):
            n = 2 if name == "pair" else 10
            predictor = self.make().fit(X[:n], targets[:n])
            predictor.save(tmp_path / name)
            load_predictor(tmp_path / name).save(tmp_path / name)
            loaded = load_predictor(tmp_path / name)
            for a, b in zip(predictor.predict(X), loaded.predict(X), strict=True):
                np.testing.assert_array_equal(a, b)
            assert loaded.fit(X, y).predict(X)[0].shape == (10,)

    def test_damaged_files_are_refused(self, tmp_path: Path) -> None:
        """A truncated array file raises `PredictorFileError`, not a decoding error."""
        X, y = synthetic_problem(10, seed=0)
        self.make().fit(X, y).save(tmp_path / "p")
        arrays = tmp_path / "p" / "arrays.npz"
        arrays.write_bytes(arrays.read_bytes()[:100])
        _raises(PredictorFileError, "damaged", lambda _: load_predictor(tmp_path / "p"), self.make())


def _other_device(X: Floats, y: Floats) -> Floats:
    """Return targets of a related task: a power of the first and an effect of one feature."""
    return np.asarray((y / 50.0) ** 3 + 0.1 * X[:, 3], dtype=np.float64)


def _raises(error: type[Exception], fragment: str, action: Callable[[Predictor], object], predictor: Predictor) -> None:
    """Assert that ``action(predictor)`` raises ``error`` with ``fragment`` in its message."""
    with pytest.raises(error, match=re.escape(fragment)):
        action(predictor)
