"""HAT's search, bootstrap of BLEU, and tables of latencies in the translation benchmarks."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from search_spaces import hat_space

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def space():
    return hat_space("hat-t", embeds=(24, 16), ffns=(32, 20), heads=(4, 2), encoder_layers=(3,), decoder_layers=(2, 1))


def size(rows):
    return rows.sum(1).astype(float)  # of choices counted from the largest: the larger, the smaller the network


def search(script, space, limit, budget=40, population=10, seed=0):
    asked = []

    def loss(rows):
        asked.extend(map(tuple, rows.tolist()))
        return -rows[:, 0] - rows[:, 5] + 0.1 * np.sin(size(rows))

    found = script("hat_search").hat_search(
        space, loss, size, limit, budget=budget, population=population, rng=np.random.default_rng(seed)
    )
    return *found, asked


def test_hats_search_spends_its_budget_on_different_networks_within_the_limit(script, space):
    limit = float(np.median(size(space.sample(500, np.random.default_rng(1)))))
    rows, scores, asked = search(script, space, limit)
    assert len(rows) == len(scores) == len(asked) == 40
    assert len(set(asked)) == 40
    assert size(rows).max() <= limit
    assert np.array_equal(rows, space.canonical(rows))
    assert scores[10:].min() <= scores[:10].min()
    assert scores[10:].mean() < scores[:10].mean()  # later generations are better than random ones
    again, *_ = search(script, space, limit)
    assert np.array_equal(again, rows)


def test_hats_search_with_hardly_any_network_within_the_limit(script, space):
    sizes = np.sort(size(space.canonical(space.sample(3000, np.random.default_rng(1)))))
    with pytest.raises(ValueError, match=r"none of .* random networks"):
        search(script, space, -1.0)
    rows, scores, _ = search(script, space, float(sizes[0]), budget=12)
    assert 1 <= len(rows) == len(scores) <= 12
    rows, *_ = search(script, space, 1e9, budget=3)  # fewer than a population
    assert len(rows) == 3


def test_bleu_of_added_up_sentences_is_bleu_of_the_corpus(script):
    sacrebleu = pytest.importorskip("sacrebleu")
    module = script("bleu_bootstrap")
    written = ["a dog runs over the green grass .", "two men sit on a bench", "the"] * 5
    references = ["a dog is running over the grass .", "two men are sitting on a bench", "a woman sings a song"] * 5
    stats = module.statistics(written, references)
    assert module.bleu(stats.sum(0)) == pytest.approx(sacrebleu.corpus_bleu(written, [references]).score)
    samples = module.resampled(stats)
    assert samples.std() > 0
    assert np.array_equal(samples, module.resampled(stats))  # pairs: the same sentences for every system


def test_a_table_of_latencies_goes_on_under_the_same_conditions_alone(script, tmp_path, monkeypatch):
    module, path = script("translation_latency"), tmp_path / "t.csv"
    calls = []
    monkeypatch.setattr(module, "process_ms", lambda *_: calls.append(1) or (1.0, 0.1))
    given = ("hat-multi30k", "cpu:eager,batch=1,threads=1,sequence=4")
    module.measure(path, given[0], 2, given[1], "process")
    module.measure(path, given[0], 3, given[1], "process")
    assert len(calls) == len(module.read_rows(path)) == 3
    before = path.read_bytes()
    for space, setting, clock, what in (
        (*given, "wall", "clock 'process', now 'wall'"),
        (given[0], given[1].replace("=4", "=5"), "process", "sequence=4', now .*sequence=5'"),
        ("hat-iwslt", given[1], "process", "space 'hat-multi30k', now 'hat-iwslt'"),
    ):
        if space == "hat-iwslt":  # too large to build here
            with pytest.raises(ValueError, match=what):
                module.check_continues(path, {"space": space})
            continue
        with pytest.raises(ValueError, match=what):
            module.measure(path, space, 5, setting, clock)
    path.write_bytes(before.replace(b",iqr_ms,", b",spread_ms,"))
    with pytest.raises(ValueError, match="has the columns"):
        module.measure(path, given[0], 5, given[1], "process")
    assert len(calls) == 3
