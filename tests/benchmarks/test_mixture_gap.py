"""How the benchmark of ways of training pairs, averages and collects, and that its seeds change what they should."""

from __future__ import annotations

import argparse
import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nassearch.gap.folder import GapFolder, GapRow, GapSettings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
N = 12
TRUE = np.linspace(3.0, 4.0, N)
GENOTYPES = [f"{i % 2} 0 0 0 0 0 {i // 6} {i % 3} {i}" for i in range(N)]  # narrow decoders are the worse half


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("mixture_figures")


@pytest.fixture
def gap(figures):
    return importlib.import_module("mixture_gap")


@pytest.fixture
def tiny(monkeypatch):
    """The plugin; what it registers is gone after the test."""
    from nassearch.tasks import list_tasks, registry
    from search_spaces import registry as spaces
    from supernets import registry as supernets
    from supernets.training import list_methods, methods

    list_tasks()  # the built-in ones stay
    list_methods()
    for module, name in (
        (registry, "_REGISTRY"), (spaces, "_REGISTRY"), (supernets, "_SIZES"), (methods, "_METHODS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(importlib.sys.modules, "tiny_translation", raising=False)
    yield importlib.import_module("tiny_translation")
    importlib.sys.modules.pop("tiny_translation", None)


def made(figures, told, true=TRUE, reference="scratch"):
    """Return tables of {way: {seed: quality of the first networks}}."""
    tables = figures.Tables()
    for i, value in enumerate(true):
        tables.params[GENOTYPES[i]] = 10.0 - i
        tables.scratch[reference][GENOTYPES[i]] = [float(value)]
    for way, by_seed in told.items():
        tables.inherited[way] = {s: {GENOTYPES[i]: float(v) for i, v in enumerate(q)} for s, q in by_seed.items()}
    return tables


def test_ways_are_compared_on_what_both_have(figures):
    tables = made(
        figures,
        {
            "hat": {0: TRUE + 1.0, 1: TRUE + 1.2},
            "sandwich": {0: TRUE + 0.5, 1: TRUE + 0.5, 2: TRUE + 9.0},  # a seed that hat has not
            "layer": {0: TRUE[:5] + 0.5},  # stopped after five networks
        },
    )
    found = figures.beside(tables, "sandwich", "hat")
    assert (found.n, found.seeds) == (N, (0, 1))  # layer's missing networks are no matter of theirs
    assert found.figures["cut"].value == pytest.approx(100 * (1 - 0.5 / 1.1))
    assert found.by_seed["cut"] == pytest.approx([50.0, 100 * (1 - 0.5 / 1.2)])
    assert found.figures["mae"].value == pytest.approx(-0.6)
    short = figures.beside(tables, "layer", "hat")
    assert (short.n, short.seeds) == (5, (0,))
    assert figures.of_way(tables, "sandwich").figures["mae"].value == pytest.approx(10.0 / 3)
    assert figures.beside(tables, "sandwich", "neuron") is None


def test_no_cut_of_a_gap_where_one_is_better_and_the_other_worse_than_alone(figures):
    tables = made(figures, {"hat": {0: TRUE + 0.8}, "hat-3x": {0: TRUE - 0.2}, "hat-9x": {0: TRUE - 0.1}})
    assert "cut" not in figures.beside(tables, "hat-3x", "hat").figures
    assert figures.cell(figures.beside(tables, "hat-3x", "hat"), "cut", 1) == ""
    assert figures.beside(tables, "hat-9x", "hat-3x").figures["cut"].value == pytest.approx(50.0)


def test_intervals_are_of_seeds_too(figures):
    one = figures.of_way(made(figures, {"hat": {0: TRUE + 1.1}}), "hat")
    two = figures.of_way(made(figures, {"hat": {0: TRUE + 1.0, 1: TRUE + 1.2}}), "hat")
    assert one.figures["bias"].value == pytest.approx(two.figures["bias"].value)
    assert one.figures["bias"].high - one.figures["bias"].low == pytest.approx(0.0)  # all networks are off by the same
    assert two.figures["bias"].low < 1.0  # a third seed need not be between the two
    assert two.figures["bias"].high > 1.2
    assert two.by_seed["bias"] == pytest.approx([1.0, 1.2])
    assert figures.cell(two, "bias", 2).endswith("[1.00, 1.20]")
    assert figures.of_way(made(figures, {"hat": {0: TRUE, 1: TRUE + 1.0}}), "hat").figures["mae"].low == 0.0
    opposite = figures.of_way(made(figures, {"hat": {0: TRUE, 1: -TRUE}}), "hat").figures["kendall_tau"]
    assert (opposite.low, opposite.high) == (-1.0, 1.0)
    assert "[" not in figures.cell(one, "bias", 2)


def test_slope(figures):
    counts = np.random.default_rng(0).integers(1, 4, (5, N)).astype(float)
    told = 0.25 * TRUE + 3.0 + np.where(np.arange(N) % 2, 0.1, -0.1)
    expected = [np.polyfit(np.repeat(TRUE, c.astype(int)), np.repeat(told, c.astype(int)), 1)[0] for c in counts]
    assert figures.slope(told, TRUE, counts) == pytest.approx(expected)
    assert np.isnan(figures.slope(told, np.ones(N), counts)).all()


def test_ranking_within_groups(figures):
    groups, counts = np.array(["a"] * 3 + ["b"] * 3), np.ones((1, 6))
    true = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    told = np.array([3.0, 2.0, 1.0, 6.0, 5.0, 4.0])  # right between the groups, wrong in each
    assert figures.tau_within(told, true, groups, counts) == pytest.approx([-1.0])
    assert figures.tau_within(true, true, groups, counts) == pytest.approx([1.0])
    repeated = np.array([[2.0, 1, 0, 0, 0, 1]])  # copies of a network are no pair
    assert figures.tau_within(told, true, groups, repeated) == pytest.approx([-1.0])
    assert np.isnan(figures.tau_within(told, true, np.arange(6), counts)).all()
    found = figures.of_way(made(figures, {"hat": {0: np.concatenate([TRUE[:6][::-1], TRUE[6:][::-1]])}}), "hat")
    assert found.figures["tau_within"].value == pytest.approx(-1.0)


def test_what_a_gene_is_worth(figures):
    rows = np.array([[int(i) for i in g.split()] for g in GENOTYPES])
    values = 3.0 + 0.1 * rows[:, 0] - 0.3 * rows[:, 6] + 0.05 * rows[:, 7]  # index 0 is the largest choice
    found = figures.effects(values, GENOTYPES)
    assert found == pytest.approx({"encoder width": -0.1, "decoder width": 0.3, "decoder layers": -0.05})


@pytest.mark.parametrize("n", [2, 3, 5])
def test_resampled_means_of_seeds_scatter_as_means_do(figures, n):
    values = np.random.default_rng(n).normal(size=n)
    weights = figures.seed_weights(n)
    assert weights[0] == pytest.approx(np.full(n, 1 / n))
    assert weights.sum(1) == pytest.approx(np.ones(len(weights)))
    assert (weights[1:] @ values).var() == pytest.approx(values.var(ddof=1) / n, rel=0.05)


def test_the_trivial_predictor_and_a_second_training(figures):
    tables = made(figures, {"hat": {0: TRUE}}, true=TRUE)
    assert figures.of_parameters(tables).figures["kendall_tau"].value == pytest.approx(1.0)  # the larger the better
    assert figures.of_parameters(tables).figures["mae_without_bias"].value == pytest.approx(0.0, abs=1e-9)
    assert figures.of_scratch(tables) is None
    for values in list(tables.scratch["scratch"].values())[:4]:
        values.append(values[0] + 0.1)
    assert figures.of_scratch(tables).n == 4
    assert figures.of_scratch(tables).figures["bias"].value == pytest.approx(0.1)


def test_tables_for_readers(figures, capsys, tmp_path):
    tables = made(figures, {"hat": {0: TRUE + 1, 1: TRUE + 1.2}, "neuron": {1: TRUE + 0.4}})
    figures.print_tables(tables, ["hat", "sandwich"])
    text = capsys.readouterr().out
    assert "scratch-3x" not in text  # nobody has trained those
    assert "| neuron | 12 | 1 | 66.7 (66.7, 66.7) |" in text
    assert "| hat | 12 | 0 1 | 1.100" in text
    figures.print_effects(tables)
    assert "| neuron | 12 | " in capsys.readouterr().out
    figures.draw(tables, ["hat", "sandwich", "neuron"], tmp_path / "gap.png")
    assert (tmp_path / "gap.png").stat().st_size > 10_000


def _folder(path, rows):
    settings = GapSettings("elsewhere", "s", "i", "t", "f", {"nll": "min", "loss": "min"}, "nll", "h", 100, {}, {}, {})
    path.mkdir(parents=True)
    folder = GapFolder.open(path, settings)
    for number, seed, inherited, alone in rows:
        quality = {} if alone is None else {"nll": alone, "loss": alone}
        folder.append(GapRow(number, seed, (number, *[0] * 7), 0.1, 2.0, {"nll": inherited, "loss": 0.0}, quality, 1.0))


def test_rows_of_all_jobs_are_gathered(gap, figures, tmp_path):
    first = [(1, 100, 4.0, 3.0), (2, 100, 4.1, 3.1), (3, 100, 4.2, None), (1, 101, 4.0, 3.2)]
    _folder(tmp_path / "gap-hat-0", first)
    _folder(tmp_path / "gap-neuron-1", [(1, 100, 3.5, 3.0), (2, 100, 3.6, 3.1)])
    _folder(tmp_path / "gap-scratch-3x-0", [(2, 100, 4.1, 2.5)])
    out = tmp_path / "table.csv"
    gap.collect(argparse.Namespace(work=tmp_path, out=out))
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["way"], r["seed"], r["architecture"]) for r in rows] == [
        ("hat", "0", "1"), ("hat", "0", "2"), ("neuron", "1", "1"), ("neuron", "1", "2"),
    ]  # fmt: skip
    assert str(tmp_path) not in out.read_text()
    assert "elsewhere" not in out.read_text()
    tables = figures.read_tables(out)
    one, two = (f"{number}{' 0' * 7}" for number in (1, 2))
    assert tables.scratch["scratch"] == {one: [3.0, 3.2], two: [3.1]}
    assert tables.scratch["scratch-3x"] == {two: [2.5]}
    assert tables.true("scratch", [one, two]) == pytest.approx([3.0, 3.1])  # the second seed is not of all
    tables.scratch["scratch"][two].append(3.3)
    assert tables.true("scratch", [one]) == pytest.approx([3.1])
    assert tables.inherited["neuron"] == {1: {one: 3.5, two: 3.6}}


def test_jobs(gap, tmp_path):
    assert gap._job("neuron-m4:2") == ("neuron-m4", 2)
    assert gap._job("scratch-3x:0") == ("scratch-3x", 0)
    for text in ("neurons:0", "hat", "hat:-1", "scratch-3x:1", "scratch:0"):
        with pytest.raises(argparse.ArgumentTypeError):
            gap._job(text)
    args = argparse.Namespace(work=tmp_path, out=tmp_path / "table.csv", train_only=False)
    with pytest.raises(SystemExit, match="finish hat:0 first"):
        gap.run_job("neuron", 0, args)
    assert not any(tmp_path.iterdir())


def test_the_sandwich_without_its_ends(tiny):
    from search_spaces import get_space
    from supernets.training import make_method

    options = {"random_subnets": 3, "distillation": False}
    method = make_method(tiny.RANDOM, get_space(tiny.NAME), total_steps=9, seed=0, **options)
    drawn = [method.subnets(step) for step in range(9)]
    assert {len(subnets) for subnets in drawn} == {3}
    assert not any(method.largest in subnets or method.smallest in subnets for subnets in drawn)


def test_a_seed_changes_first_weights_and_order_but_not_the_data(tiny, gap, monkeypatch, tmp_path):
    import nassearch
    from nassearch.problem import make_problem

    for language in ("de", "en"):
        for part, n in (("train", 300), ("val", 40)):
            words = np.random.default_rng(7).integers(0, 60, (n, 6))
            lines = [" ".join(f"{language}{w}" for w in row) for row in words]
            (tmp_path / f"{part}.{language}").write_text("\n".join(lines) + "\n")
    configs = []
    monkeypatch.setattr(nassearch, "run", configs.append)
    for seed in (0, 1):
        gap.trained_run("neuron", seed, argparse.Namespace(work=tmp_path / "work", data=tmp_path))
    smaller = {"plugins": [], "out": tmp_path / "out"}
    problems = []
    for config in configs:
        task = config.task.replace("vocab_size=1000,train=8000", f"vocab_size=70,train=200,cache={tmp_path / 'cache'}")
        problems.append(make_problem(config.model_copy(update={**smaller, "task": task}), None))
    first, second = problems
    assert first.task.fingerprint == second.task.fingerprint
    assert (first.training.seed, second.training.seed) == (0, 1)
    orders = [[b.targets.tolist() for b in p.training_data().batches(0)] for p in problems]
    assert orders[0] != orders[1]
    weights = [p.build_supernet().state_dict() for p in problems]
    differ = [name for name, w in weights[0].items() if not torch.equal(w, weights[1][name])]
    assert "model.tokens.weight" in differ
    assert any("experts" in name or "mixture" in name for name in differ), differ
