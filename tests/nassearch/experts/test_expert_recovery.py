"""Expert subnets of a run are trained on: distilled from the full model, whole, by routers alone, or by adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import supernets.training.loop as loop
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.finetuning import FinetuneSettings, finetune
from nassearch.runs import Run

QUIET = make_console(quiet=True)
SHORT: dict[str, Any] = {"epochs": 2, "lr": 0.01, "batch_size": 8}


@pytest.fixture(scope="module")
def subnet(expert_run: Run) -> str:
    """A subnet that no stock class can hold, if there is one."""
    merged = [r for r in expert_run.records if "m-smoe" in r.arch.values() or "mone" in r.arch.values()]
    return str((merged or expert_run.records)[0].id)


def changed(run: Run, subnet: str, folder: Path) -> set[str]:
    """The parameters that a fine-tuning changed."""
    before, after = (
        run.supernet().extract(run.select(subnet).arch).state_dict(),
        load_file(folder / "model.safetensors"),
    )
    return {name for name, t in after.items() if not torch.equal(t, before[name])}


def test_it_is_distilled_from_the_full_model_and_exported(expert_run: Run, subnet: str, tmp_path: Path) -> None:
    result = finetune(
        expert_run, subnet, FinetuneSettings(**SHORT), out=tmp_path / "t", format="transformers", console=QUIET
    )
    asked = json.loads((tmp_path / "t" / "finetune.json").read_text())["training"]["options"]
    assert (asked["alpha"], asked["temperature"], asked["gamma"], asked["teacher"]) == (0.8, 2.0, 1.0, "supernet")
    assert result.after["report"]["nll"] < result.before["report"]["nll"]
    card = json.loads((tmp_path / "t" / "transformers" / "card.json").read_text())
    assert card["form"] == "own modelling file"
    assert card["max_difference_to_subnet"] == 0.0
    assert card["metrics"]["report_split"] == result.after["report"]
    text = (tmp_path / "t" / "transformers" / "README.md").read_text()
    assert "trust_remote_code=True" in text


@pytest.mark.parametrize("group", ["routers", "experts"])
def test_one_group_alone_is_trained(group: str, expert_run: Run, subnet: str, tmp_path: Path) -> None:
    finetune(expert_run, subnet, FinetuneSettings(**SHORT, only=(group,)), out=tmp_path / "t", console=QUIET)
    names = changed(expert_run, subnet, tmp_path / "t")
    assert names
    assert all((".gate." in name) if group == "routers" else (".experts." in name) for name in names)


def test_adapters_are_trained_and_merged(expert_run: Run, subnet: str, tmp_path: Path) -> None:
    settings = FinetuneSettings(**SHORT, lora_rank=2, lora_targets=("*_proj",))
    result = finetune(expert_run, subnet, settings, out=tmp_path / "t", console=QUIET)
    names = changed(expert_run, subnet, tmp_path / "t")
    assert {n.rpartition(".")[2] for n in names if ".experts." in n} == {"gate_up_proj", "down_proj"}
    assert any("self_attn" in n for n in names)
    assert not any(".gate.weight" in n or "norm" in n or "lm_head" in n or "embed" in n for n in names)
    assert result.after["report"]["nll"] < result.before["report"]["nll"]
    net = expert_run.supernet()
    arch = expert_run.select(subnet).arch
    before = net.extract(arch).state_dict()
    after = load_file(tmp_path / "t" / "model.safetensors")
    ranks = [int(torch.linalg.matrix_rank((after[n] - before[n]).double(), rtol=1e-4).max()) for n in names]
    assert set(ranks) == {2}


@pytest.mark.parametrize("more", [{"only": ("routers",)}, {"lora_rank": 2}])
def test_a_stopped_one_ends_the_same(
    more: dict[str, Any], expert_run: Run, subnet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FinetuneSettings(**SHORT, **more)
    whole = finetune(expert_run, subnet, settings, out=tmp_path / "whole", console=QUIET)
    real = loop.seed_step

    def stop(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
        if step == 3:
            raise KeyboardInterrupt
        real(seed, step, device, rank)

    monkeypatch.setattr(loop, "seed_step", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(expert_run, subnet, settings, out=tmp_path / "half", console=QUIET)
    monkeypatch.setattr(loop, "seed_step", real)
    half = finetune(expert_run, subnet, settings, out=tmp_path / "half", console=QUIET)
    assert half.after == whole.after
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "half")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_bad_settings_are_refused_before_any_work(expert_run: Run, subnet: str, tmp_path: Path) -> None:
    for settings, message in (
        (FinetuneSettings(only=("router",)), r"--only router: .* did you mean 'routers'.*experts, routers-and-experts"),
        (FinetuneSettings(only=("*.nothing",)), "matches no parameter"),
        (FinetuneSettings(only=("routers",), lora_rank=4), "give one of them"),
        (FinetuneSettings(lora_rank=4, lora_targets=("*.nothing",)), "lora_targets"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune(expert_run, subnet, settings, out=tmp_path / "bad", console=QUIET)
    assert not (tmp_path / "bad").exists()
