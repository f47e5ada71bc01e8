"""A subnet is trained on alone: exactly resumed, scored before and after, exported as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import supernets.training.loop as loop
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.finetuning import FinetuneSettings, finetune
from nassearch.runs import Run

QUIET = make_console(quiet=True)
SHORT = FinetuneSettings(epochs=2, lr=0.02, batch_size=32)


def test_a_network_of_a_run_is_trained_on_and_exported(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    result = finetune(run, "knee", SHORT, out=tmp_path / "tuned", format="state-dict", console=QUIET)
    record = run.select("knee")
    assert result.before["search"]["top1"] == pytest.approx(record.values["top1"])
    assert result.before["report"]["top1"] == pytest.approx(record.report["top1"])
    assert result.after["search"]["loss"] < result.before["search"]["loss"]
    card = json.loads((tmp_path / "tuned" / "state-dict" / "card.json").read_text())
    assert card["metrics"]["report_split"] == result.after["report"]
    again = finetune(run, "knee", SHORT, out=tmp_path / "tuned", console=QUIET)
    assert again.after == result.after
    with pytest.raises(ConfigError, match="fine-tuning with other settings"):
        finetune(run, "knee", FinetuneSettings(epochs=3), out=tmp_path / "tuned", console=QUIET)


def test_a_stopped_fine_tuning_ends_the_same(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(finished)
    whole = finetune(run, "knee", SHORT, out=tmp_path / "whole", console=QUIET)
    real = loop.seed_step

    def stop(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
        if step == 5:
            raise KeyboardInterrupt
        real(seed, step, device, rank)

    monkeypatch.setattr(loop, "seed_step", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(run, "knee", SHORT, out=tmp_path / "half", console=QUIET)
    monkeypatch.setattr(loop, "seed_step", real)
    half = finetune(run, "knee", SHORT, out=tmp_path / "half", console=QUIET)
    assert half.after == whole.after
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "half")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_teacher_makes_a_difference_and_settings_are_checked(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    taught = finetune(run, "knee", FinetuneSettings(epochs=1), out=tmp_path / "taught", console=QUIET)
    alone = finetune(run, "knee", FinetuneSettings(epochs=1, distill=False), out=tmp_path / "alone", console=QUIET)
    assert alone.after != taught.after
    with pytest.raises(ConfigError, match="finetune: lr must be a number > 0"):
        finetune(run, "knee", FinetuneSettings(lr=-1.0), out=tmp_path / "bad", console=QUIET)
    assert not (tmp_path / "bad").exists()
