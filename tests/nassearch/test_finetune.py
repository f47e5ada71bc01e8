"""A subnet is trained on alone: exactly resumed, scored before and after, exported as any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import supernets.training.loop as loop
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.finetuning import FinetuneSettings, finetune, left_out
from nassearch.runs import Run

QUIET = make_console(quiet=True)
SHORT = FinetuneSettings(epochs=2, lr=0.02, batch_size=32)


def stop_at(last: int | None, steps: list[int]) -> Callable[..., None]:
    """Return a `seed_step` that notes the steps and is interrupted in one of them."""
    real = loop.seed_step

    def seed(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
        if step == last:
            raise KeyboardInterrupt
        steps.append(step)
        real(seed, step, device, rank)

    return seed


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
    monkeypatch.setattr(loop, "seed_step", stop_at(5, []))
    with pytest.raises(KeyboardInterrupt):
        finetune(run, "knee", SHORT, out=tmp_path / "half", console=QUIET)
    monkeypatch.undo()
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


def edited(run_folder: Path, **changes: object) -> Run:
    """Return the run as if it had been started with other settings."""
    path = run_folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return Run(run_folder)


def test_it_starts_from_how_the_run_was_trained(run_folder: Path) -> None:
    train = {"method": "instatune", "batch_size": 16, "settings": {"epochs": 3, "weight_decay": 0.2, "lora_rank": 4}}
    run = edited(run_folder, train=train)
    task, settings = run.task(), FinetuneSettings()
    found = settings.training(run, task)
    assert (found.optimizer, found.lr, found.decay, found.clip_norm) == ("adamw", 5e-5, "linear", 1.0)  # the method's
    assert (found.epochs, found.weight_decay) == (3, 0.2)  # the run's
    assert found.lora_rank == 0
    assert left_out(run, task) == ["lora_rank"]
    assert settings.inputs_of_a_step(run, task) == 16
    assert FinetuneSettings(batch_size=8).inputs_of_a_step(run, task) == 8

    sgd = {"method": "sandwich", "settings": {"steps": 50, "lr": 0.4, "freeze": ["*bias"]}}
    run = edited(run_folder, train=sgd)
    found = settings.training(run, task)
    assert (found.optimizer, found.lr, found.steps, found.epochs) == ("sgd", 0.04, 5, None)  # from random weights
    assert left_out(run, task) == ["freeze"]
    assert FinetuneSettings(epochs=2, lr=0.3).training(run, task).to_json().items() >= {"epochs": 2, "lr": 0.3}.items()
    assert settings.training(edited(run_folder, model="timm:some"), task).lr == 0.4  # from a trained model

    run = edited(run_folder, model=None, supernet=str(run_folder / "supernet"), train={"settings": {"epochs": 99}})
    found = settings.training(run, task)  # it did not train
    assert (found.optimizer, found.lr, found.epochs) == ("adamw", 5e-5, task.training_defaults["epochs"])


def test_batch_size_tells_fine_tunings_apart_and_a_moved_run_has_the_same(run_folder: Path, tmp_path: Path) -> None:
    done = finetune(Run(run_folder), "knee", FinetuneSettings(epochs=1), console=QUIET)
    moved = Run(shutil.move(run_folder, tmp_path / "moved"))
    again = finetune(moved, "knee", FinetuneSettings(epochs=1, batch_size=32), console=QUIET)  # the run's own
    assert again.after == done.after
    with pytest.raises(ConfigError, match="fine-tuning with other settings"):
        finetune(moved, "knee", FinetuneSettings(epochs=1, batch_size=16), console=QUIET)
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        finetune(moved, "knee", FinetuneSettings(batch_size=0), console=QUIET)


def test_a_fine_tuning_that_was_stopped_goes_on_where_the_run_was_moved_to(
    finished: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = FinetuneSettings(epochs=1, batch_size=16)
    whole = finetune(Run(finished), "knee", tuning, out=tmp_path / "whole", console=QUIET)
    run = edited(run_folder, train={"batch_size": 32, "settings": {"epochs": 2, "checkpoint_every": 3}})
    monkeypatch.setattr(loop, "seed_step", stop_at(5, []))
    with pytest.raises(KeyboardInterrupt):
        finetune(run, "knee", tuning, console=QUIET)
    monkeypatch.undo()
    steps: list[int] = []
    moved = Run(shutil.move(run_folder, tmp_path / "moved"))
    monkeypatch.setattr(loop, "seed_step", stop_at(None, steps))
    again = finetune(moved, "knee", tuning, console=QUIET)
    assert steps == [3, 4, 5, 6, 7]
    assert again.after == whole.after
    files = [whole.folder / "model.safetensors", again.folder / "model.safetensors"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_labels_alone_need_no_teacher(finished: Path) -> None:
    run = Run(finished)
    task = run.task()
    alone = FinetuneSettings(distill=False).training(run, task)
    assert FinetuneSettings(alpha=1.0).training(run, task) == alone
    assert "teacher" not in alone.options
