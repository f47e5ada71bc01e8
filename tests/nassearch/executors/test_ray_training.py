"""Training by Ray Train's workers: like one worker, resumed after one was killed, and in a whole run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import nassearch
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.executors import ExecutorSettings
from nassearch.executors.ray_cluster import Cluster
from nassearch.executors.ray_training import train_on_ray
from nassearch.tasks import make_task
from supernets import Supernet, convert
from supernets.training import TrainingError, TrainSettings, logits_of, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TWO = ExecutorSettings(num_workers=2, retries=1)
SETTINGS = TrainSettings(
    steps=5, optimizer="adamw", lr=1e-3, checkpoint_every=2, evaluate_every=0, options={"random_subnets": 1}
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(TWO, 0)
    yield cluster
    cluster.close()


def vit(task: Any, mixture: str = "none") -> Supernet:
    from transformers import ViTConfig, ViTForImageClassification

    channels, size, _ = task.input_shape
    config = ViTConfig(
        image_size=size,
        patch_size=size // 2,
        num_channels=channels,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        num_labels=10,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return convert(ViTForImageClassification(config), mixture=mixture)


def problem(small_task: str, **changes: Any) -> Any:
    """What `train_on_ray` reads of a run."""
    task = make_task(small_task, seed=0)
    values = {
        "task": task,
        "config": SimpleNamespace(plugins=(), train_method="instatune", seed=0),
        "training": SETTINGS,
        "training_batch_size": 25,  # 13 and 12 inputs
    }
    return SimpleNamespace(**(values | changes))


def finished(case: Any, net: Supernet, folder: Path | None) -> dict[str, torch.Tensor]:
    """Train in this process, or read what the workers have finished."""
    report = train(
        net,
        case.task.training_data(case.training_batch_size, seed=0),
        lambda outputs, targets: case.task.loss(logits_of(outputs), targets),
        method="instatune",
        settings=case.training,
        checkpoint_dir=folder,
        resume=folder is not None,
        data_fingerprint=case.task.fingerprint,
        device="cpu",
    )
    assert report.resumed_from == (None if folder is None else 5)
    return dict(net.state_dict())


@pytest.mark.parametrize("mixture", ["none", "neuron"])
def test_two_workers_train_like_this_process(cluster: Cluster, small_task: str, tmp_path: Path, mixture: str) -> None:
    case = problem(small_task)
    seen: list[int] = []
    train_on_ray(case, vit(case.task, mixture), tmp_path / "training", TWO, lambda state: seen.append(state.step))
    assert seen[-1] == 5
    got = finished(case, vit(case.task, mixture), tmp_path / "training")
    wanted = finished(case, vit(case.task, mixture), None)
    assert any(".experts." in name for name in wanted) is (mixture != "none")
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-5, rtol=0)


def test_a_killed_worker_costs_the_steps_since_the_checkpoint_alone(
    cluster: Cluster, small_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = problem(small_task)
    marker = tmp_path / "died"
    monkeypatch.setattr("nassearch.executors.ray_training.train_share", DieOnce(str(marker)))
    train_on_ray(case, vit(case.task), tmp_path / "training", TWO, lambda state: None)
    assert marker.read_text() == "2"  # the checkpoint that was there
    got = finished(case, vit(case.task), tmp_path / "training")
    wanted = finished(case, vit(case.task), None)
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-5, rtol=0)


class DieOnce:
    """`train_share`, but worker 1's process ends in step 4, once."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __call__(self, job: dict[str, Any]) -> None:
        from nassearch.executors.ray_training import train_share
        from supernets.training import ProcessTeam, loop

        marker, plain = Path(self.marker), loop.seed_step

        def seed_step(seed: int, step: int, *args: Any) -> None:
            if step == 3 and ProcessTeam().rank == 1 and not marker.exists():
                record = json.loads((Path(job["folder"]) / "training.json").read_text(encoding="utf-8"))
                marker.write_text(str(record["step"]))
                os._exit(1)
            plain(seed, step, *args)

        loop.seed_step = seed_step
        train_share(job)


def test_what_cannot_be_trained_is_said_in_one_message_without_retries(
    cluster: Cluster, small_task: str, tmp_path: Path
) -> None:
    case = problem(small_task, training=replace(SETTINGS, lr=1e30, warmup=0.0))
    with pytest.raises(TrainingError, match=r"became (nan|inf|NaN)"):
        train_on_ray(case, vit(case.task), tmp_path / "training", TWO, lambda state: None)


def test_a_run_trains_on_its_workers(cluster: Cluster, small_settings: dict[str, Any], tmp_path: Path) -> None:
    changes = {
        "objectives": ["top1:max", "macs_m:min"],
        "constraints": [],
        "num_evals": 4,
        "executor": {"name": "ray", "num_workers": 2},
        "export": {"format": "none"},
        "out": str(tmp_path / "run"),
    }
    run = nassearch.run(small_settings | changes, console=make_console(quiet=True))
    assert len(run.records) == 4
    assert not (tmp_path / "run" / "training").exists()


def test_missing_parts_of_ray_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from nassearch.executors.ray_training import require_ray_train

    monkeypatch.setitem(sys.modules, "ray.train.torch", None)
    with pytest.raises(ConfigError, match=r"ray\[default,train\]"):
        require_ray_train()
