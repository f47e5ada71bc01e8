import logging
from typing import Any

import numpy as np
import pytest

from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import OBJECTIVES, check_pending, drive, metrics, small_space, told
from search_spaces import Gene, SearchSpace, get_space


@pytest.mark.parametrize("name", ["tpe", "optuna-nsga2"])
def test_repeated_proposals_are_counted_and_replaced(name: str) -> None:
    space = SearchSpace("few", [Gene(g, (1, 2, 3)) for g in "abc"])
    options: dict[str, Any] = {"population": 6} if name == "optuna-nsga2" else {"startup": 6}
    s = make_strategy(name, space, objectives=["top1:max"], redraws=2, **options)
    for _ in range(9):
        rows = s.ask(3)
        assert len(rows) == 3
        s.tell(rows, rows.sum(axis=1)[:, None].astype(float))
    # At most two further trials for each of the 21 rows after the start.
    assert 0 < s.diagnostics()["redrawn"] <= 3 * 21
    assert not len(s.ask(3))


def test_inactive_genes_are_no_parameters_of_tpe() -> None:
    space = small_space()
    s = make_strategy("tpe", space, objectives=OBJECTIVES[:2])
    rows = s.ask(12)
    told(s, rows)
    study = s._study(rows[:0], np.random.default_rng(0))  # type: ignore[attr-defined]
    active = space.active(rows)
    for trial, row in zip(study.trials, active, strict=True):
        assert set(trial.params) == {g.name for g, a in zip(space.genes, row, strict=True) if a}


def test_every_trial_of_optuna_nsga2_has_all_genes_and_its_generation() -> None:
    space = small_space()
    s = make_strategy("optuna-nsga2", space, objectives=OBJECTIVES[:2], population=10)
    rows = s.ask(10)
    s.tell(rows, np.where(np.arange(10)[:, None] == 3, np.nan, metrics(rows)[:, :2]))
    drive(s, 2, 6)
    study = s._study(rows[:0], np.random.default_rng(0))  # type: ignore[attr-defined]
    assert all(len(t.params) == len(space.genes) for t in study.trials)
    assert study.trials[3].state.name == "FAIL"
    generations = [t.system_attrs["NSGAIISampler:generation"] for t in study.trials if t.state.name == "COMPLETE"]
    assert generations == [0] * 10 + [1] * 10 + [2]


def test_constraints_reach_the_study() -> None:
    s = make_strategy("tpe", small_space(), objectives=["top1:max"], constraints=["latency_ms <= 2"])
    rows = s.ask(10)
    told(s, rows)
    study = s._study(rows[:0], np.random.default_rng(0))  # type: ignore[attr-defined]
    assert [t.constraints["0"] for t in study.trials] == s.V[:, 0].tolist()


@pytest.mark.parametrize("name", ["tpe", "optuna-nsga2"])
def test_constraints_steer(name: str) -> None:
    space = get_space("mobilenetv3-tiny")
    options: dict[str, Any] = {"population": 15} if name == "optuna-nsga2" else {}
    s = make_strategy(name, space, objectives=["top1:max"], constraints=["latency_ms <= 4"], **options)
    drive(s, 12, 10)
    assert s.V[-40:].mean() < 0.7 * s.V[:20].mean()


def test_the_log_stays_quiet_and_its_level_is_restored(capfd: pytest.CaptureFixture[str]) -> None:
    import optuna

    optuna.logging.set_verbosity(logging.INFO)
    s = make_strategy("tpe", small_space(), objectives=OBJECTIVES[:2], startup=4)
    drive(s, 2, 6)
    assert optuna.logging.get_verbosity() == logging.INFO
    assert "study" not in "".join(capfd.readouterr())


def test_gp_uses_results_and_pending_rows() -> None:
    """A short version of the conformance suite, which takes minutes for this sampler."""
    searches = []
    for sign in (1, 1, -1):
        s = make_strategy("gp", small_space(), objectives=["latency_ms:min"], startup=6, redraws=0)
        for _ in range(2):
            rows = s.ask(6)
            s.tell(rows, sign * metrics(rows)[:, 1:2])
        searches.append(s.ask(3))
    np.testing.assert_array_equal(searches[0], searches[1])
    assert not np.array_equal(searches[0], searches[2])
    assert metrics(searches[0])[:, 1].mean() < metrics(searches[2])[:, 1].mean()


def test_pending_rows_are_running_trials() -> None:
    check_pending("tpe")
    s = make_strategy("tpe", small_space(), objectives=OBJECTIVES[:2], startup=4)
    rows = s.ask(4)
    told(s, rows[:3])
    study = s._study(rows[:0], np.random.default_rng(0))  # type: ignore[attr-defined]
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 3 + ["RUNNING"]
