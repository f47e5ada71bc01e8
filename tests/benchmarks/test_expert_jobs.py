"""How the benchmarks of expert configurations cut texts, draw blocks, define budgets and compare routing."""

from __future__ import annotations

import importlib
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from supernets import convert
from supernets.base import call

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def net():
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=8, num_experts_per_tok=2,
    )  # fmt: skip
    batches = [{"input_ids": torch.randint(0, 64, (4, 16))}]
    return convert(
        Qwen3MoeForCausalLM(config).eval(), calibration=batches, keep=[4, 6, 8], width=[8, 12, 16], k=[2],
        criteria=["reap", "frequency"], operators=["drop", "m-smoe"],
    )  # fmt: skip


def test_held_out_texts_are_the_end_and_nothing_is_lost(script):
    moe_texts = script("moe_texts")
    text = "".join(f"line {i}\n" for i in range(40_000))
    parts = moe_texts._cut(text)
    assert "".join(parts[s] for s in ("train", "report", "search", "calibration")) == text
    assert all(parts[s].startswith("line") and len(parts[s]) >= moe_texts.HELD_OUT for s in moe_texts.SPLITS)


@pytest.mark.needs_shared
def test_no_line_of_multi30k_and_no_python_file_is_in_two_splits(script):
    moe_texts = script("moe_texts")
    texts = moe_texts.read_domains(SHARED, 0)
    for domain in ("german", "english"):
        lines = [set(texts[domain][s].splitlines()[:-1]) for s in moe_texts.SPLITS]  # the last one may be cut
        assert not any(a & b for a, b in combinations(lines, 2))
    assert all(len(texts[d][s]) > 0.9 * moe_texts.HELD_OUT for d in moe_texts.DOMAINS for s in moe_texts.SPLITS)


def test_blocks_of_all_domains_are_balanced_and_the_report_is_the_same_for_all_seeds(script):
    jobs = script("expert_jobs")
    blocks = {d: np.full((50, 4), i) for i, d in enumerate(jobs.DOMAINS)}
    drawn = jobs.draw(blocks, jobs.ALL, 20, 3)
    assert np.bincount(drawn[:, 0]).tolist() == [4] * 5
    numbered = {d: np.arange(200).reshape(50, 4) for d in jobs.DOMAINS}
    assert not np.array_equal(jobs.draw(numbered, "python", 20, 0), jobs.draw(numbered, "python", 20, 1))
    assert np.array_equal(jobs.draw(numbered, "python", 20, None), numbered["python"][:20])


def test_a_budget_is_met_by_dropping_that_share_and_gives_no_more_weights(script, net):
    jobs, search = script("expert_jobs"), script("expert_search")
    for removed in (0.25, 0.5):
        names, rows = search.uniform_rows(net, removed)
        assert {"uniform:reap:drop", "uniform:frequency:drop", "uniform:reap:m-smoe", "uniform:width"} == set(names)
        sizes, limit = net.analytic(rows)["size_mb"], jobs.limit_mb(net, removed)
        assert sizes[0] <= limit < sizes[0] + 0.006 * jobs.expert_mb(net, net.space.largest[None])[0]
    share = jobs.expert_mb(net, rows[:1])[0] / jobs.expert_mb(net, net.space.largest[None])[0]
    assert share == pytest.approx(0.5)


def test_block_losses_are_those_of_the_model(script, net):
    jobs = script("expert_jobs")
    ids = torch.randint(0, 64, (3, 16))
    losses = jobs.block_losses(net, [{"input_ids": ids}])
    assert losses.mean() == pytest.approx(float(call(net, {"input_ids": ids, "labels": ids}).loss.detach()), rel=1e-5)


def test_kept_scores_are_not_computed_again(script, net, tmp_path):
    jobs = script("expert_jobs")
    inputs = [{"input_ids": torch.randint(0, 64, (3, 16))}]
    first = jobs.Scores(net, inputs, inputs, tmp_path / "scores.csv")
    kl, losses = first.fidelity(first.full)[0], first.losses(first.full)
    assert kl == pytest.approx(0.0, abs=1e-6)
    again = jobs.Scores(net, inputs, inputs, tmp_path / "scores.csv")
    object.__setattr__(again, "_reference", SimpleNamespace())  # would fail if it was asked
    assert again.fidelity(again.full)[0] == pytest.approx(kl, abs=1e-6)
    assert np.allclose(again.losses(again.full), losses, atol=1e-5)


def test_regret_is_relative_to_the_oracle_of_the_same_seed_and_budget(script, tmp_path, capsys):
    oracle = script("expert_oracle")
    path = tmp_path / "out.csv"
    lines = ["domain,seed,removed,method,nll,delta_nll", "all,0,0.5,naee,2.0,0.1", "all,0,0.5,searched,2.02,0.12"]
    path.write_text("\n".join([*lines, "all,1,0.5,searched,9,9"]))
    oracle.print_regret(path)
    assert capsys.readouterr().out == "0.5 searched: loss +1.0 %, rise +20.0 % (1 seeds)\n"


def test_balance_loss_is_one_where_the_load_is_even_and_more_elsewhere(script):
    train = script("moe_train")
    even = torch.eye(8).repeat(4, 1) * 20
    even = even + even.roll(1, 1)
    assert float(train.balance_loss((even,), 2)) == pytest.approx(1.0, abs=1e-3)
    assert float(train.balance_loss((even[:1].repeat(32, 1),), 2)) == pytest.approx(4.0, abs=1e-2)


def test_routing_lost_and_divergence(script):
    routing = script("olmoe_routing")
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert routing.lost(p, p, 0.5) == pytest.approx(0.3)
    assert routing.lost(p, q, 0.5) == pytest.approx(0.7)
    assert routing.js_bits(p, p) == 0
    assert routing.js_bits(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)
    assert routing.effective(np.full(8, 1 / 8)) == pytest.approx(8)
    assert routing.frequencies(np.array([3, 1])).tolist() == [0.75, 0.25]


def test_every_method_meets_the_budget_and_a_stopped_job_goes_on(script, net, tmp_path, monkeypatch):
    jobs, search = script("expert_jobs"), script("expert_search")
    inputs = [{"input_ids": torch.randint(0, 64, (3, 16))}]

    def opened(args, domain, seed, **_):
        return jobs.Scores(net, inputs, inputs, tmp_path / "scores.csv")

    monkeypatch.setattr(search, "open_job", opened)
    args = SimpleNamespace(
        out=tmp_path / "out.csv", methods=["searched"], budget=14, front=10, criteria=["reap"], operators=["drop"]
    )
    search.Job("all", 0, args).at_budget(0.5)
    first = (tmp_path / "out.csv").read_text()
    args.methods = list(search.METHODS)
    job = search.Job("all", 0, args)
    job.at_budget(0.5)
    job.front()
    text = (tmp_path / "out.csv").read_text()
    assert text.startswith(first)
    rows = search.read_rows(tmp_path / "out.csv")
    found = {r["method"]: r for r in rows if r["removed"] == "0.5"}
    assert {"searched", "evoesap", "additive-counts"} <= set(found)
    assert len(found) == sum(r["removed"] == "0.5" for r in rows)
    assert all(float(r["size_mb"]) <= jobs.limit_mb(net, 0.5) + 1e-3 for r in found.values())
    uniform = [float(r["kl_search"]) for m, r in found.items() if m.startswith("uniform")]
    assert float(found["searched"]["kl_search"]) <= min(uniform)
    assert any(r["method"] == "front" for r in rows)


def test_curves_are_means_over_seeds_by_size(script):
    figure = script("expert_figure")
    cells = [("uniform:reap:drop", 0.5, 0.2), ("uniform:reap:drop", 0.5, 0.4), ("uniform:reap:drop:12", 0.75, 0.1)]
    cells += [("uniform:reap:ream", 0.5, 0.3), ("front", 0.6, 0.1), ("searched", 0.5, 0.1), ("uniform:width", 0.5, 0.7)]
    rows = [{"domain": "all", "method": m, "expert_share": str(s), "delta_nll": str(d)} for m, s, d in cells]
    found = figure.curves([*rows, {**rows[0], "domain": "python", "delta_nll": "9"}], "all")
    assert set(found) == {"reap", "ream (operator)", "front", "width"}
    assert np.allclose(found["reap"], [(0.5, 0.3), (0.75, 0.1)])
