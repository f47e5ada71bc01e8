"""A training killed at any step and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_toy import ToyData, ToySupernet, loss, same, settings, weights_of

from supernets.training import NonFiniteLoss, ResumeError, TrainProgress, TrainSettings, train

METHODS = ["sandwich", "progressive-shrinking", "single-path", "instatune"]


class Stopped(Exception):
    pass


def stop_at(step: int):
    def progress(state: TrainProgress) -> None:
        if state.step == step:
            raise Stopped

    return progress


def fit(method: str, s: TrainSettings, folder: Path | None = None, progress=None, **kwargs):
    net = ToySupernet(dropout=0.2)
    report = train(
        net, ToyData(), loss, method=method, settings=s, checkpoint_dir=folder, resume=True, progress=progress,
        device="cpu", **kwargs,
    )  # fmt: skip
    return net, report


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", METHODS)
def test_interrupted_at_random_steps(method, optimizer, tmp_path):
    lr = 0.05 if optimizer == "sgd" else 0.003
    s = settings(optimizer=optimizer, lr=lr, steps=26, accumulate=2 if method == "sandwich" else 1, clip_norm=1.0)
    wanted, whole = fit(method, s)
    rng = random.Random(f"{method}{optimizer}")
    stops = sorted(rng.sample(range(5, 26), 5))
    for step in stops:
        torch.manual_seed(step)  # the global random state must not matter
        with pytest.raises(Stopped):
            fit(method, s, tmp_path, stop_at(step))
    net, report = fit(method, s, tmp_path)
    assert same(weights_of(net), weights_of(wanted))
    assert report.resumed_from == stops[-1] // 5 * 5
    assert (report.history, report.images, report.loss) == (whole.history, whole.images, whole.loss)


@pytest.mark.parametrize("method", METHODS)
def test_resume_with_accumulation_from_every_step(method, tmp_path):
    s = settings(steps=9, accumulate=4, checkpoint_every=1)
    wanted, _ = fit(method, s)
    for step in range(1, 9):
        with pytest.raises(Stopped):
            fit(method, s, tmp_path, stop_at(step))
    net, report = fit(method, s, tmp_path)
    assert report.resumed_from == 8
    assert same(weights_of(net), weights_of(wanted))


def test_dropout_and_sampling_depend_on_the_seed_alone():
    one, _ = fit("sandwich", settings(seed=1))
    again, _ = fit("sandwich", settings(seed=1))
    other, _ = fit("sandwich", settings(seed=2))
    assert same(weights_of(one), weights_of(again))
    assert not same(weights_of(one), weights_of(other))


def test_global_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit("sandwich", settings(steps=3))
    assert torch.equal(torch.rand(3), expected)


def test_finished_training_is_not_repeated(tmp_path):
    net, _ = fit("single-path", settings(), tmp_path)
    again, report = fit("single-path", settings(), tmp_path, stop_at(1))
    assert same(weights_of(net), weights_of(again))
    assert report.resumed_from == report.steps == 24
    assert report.top1_largest is not None


def test_reporting_settings_do_not_change_weights_and_may_change_on_resume(tmp_path):
    plain, _ = fit("sandwich", settings(evaluate_every=0))
    with pytest.raises(Stopped):
        fit("sandwich", settings(evaluate_every=1), tmp_path, stop_at(11))
    net, _ = fit("sandwich", settings(evaluate_every=3, checkpoint_every=2), tmp_path)
    assert same(weights_of(plain), weights_of(net))


def test_other_settings_method_or_data_are_refused(tmp_path):
    with pytest.raises(Stopped):
        fit("sandwich", settings(), tmp_path, stop_at(6), data_fingerprint="abc")
    with pytest.raises(ResumeError, match=r"settings\.lr: 0\.05 in the checkpoint, now 0\.1") as error:
        fit("single-path", settings(lr=0.1), tmp_path, data_fingerprint="xyz")
    assert "method: 'sandwich' in the checkpoint, now 'single-path'" in str(error.value)
    assert "data_fingerprint: 'abc' in the checkpoint, now 'xyz'" in str(error.value)


def test_other_space_is_refused(tmp_path):
    with pytest.raises(Stopped):
        fit("sandwich", settings(), tmp_path, stop_at(6))
    net = ToySupernet(resolution=False)
    with pytest.raises(ResumeError, match="space: ") as error:
        train(net, ToyData(), loss, method="sandwich", settings=settings(), checkpoint_dir=tmp_path, resume=True)
    assert "supernet.resolution: True in the checkpoint, now False" in str(error.value)


def test_checkpoint_is_not_overwritten_unasked(tmp_path):
    with pytest.raises(Stopped):
        fit("sandwich", settings(), tmp_path, stop_at(6))
    with pytest.raises(ResumeError, match="resume=True"):
        train(ToySupernet(), ToyData(), loss, method="sandwich", settings=settings(), checkpoint_dir=tmp_path)


def test_damaged_checkpoints_are_named(tmp_path):
    with pytest.raises(Stopped):
        fit("sandwich", settings(), tmp_path, stop_at(6))
    (tensors,) = tmp_path.glob("*.safetensors")
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-10])
    with pytest.raises(ResumeError, match="truncated"):
        fit("sandwich", settings(), tmp_path)
    tensors.write_bytes(b"\xff" * len(whole))
    with pytest.raises(ResumeError, match="cannot read"):
        fit("sandwich", settings(), tmp_path)
    tensors.write_bytes(whole)
    index = tmp_path / "training.json"
    text = index.read_text()
    index.write_text(text.replace(tensors.name, f"../{tensors.name}"))
    with pytest.raises(ResumeError, match="missing or truncated"):
        fit("sandwich", settings(), tmp_path)
    index.write_text(text[:50])
    with pytest.raises(ResumeError, match="cannot read"):
        fit("sandwich", settings(), tmp_path)
    index.write_text("{}")
    with pytest.raises(ResumeError, match="not a training checkpoint"):
        fit("sandwich", settings(), tmp_path)


def test_checkpoint_lacking_a_tensor_does_not_fit(tmp_path):
    with pytest.raises(Stopped):
        fit("sandwich", settings(), tmp_path, stop_at(6))
    (path,) = tmp_path.glob("*.safetensors")
    tensors = load_file(path)
    del tensors["net.stem.weight"]
    save_file(tensors, path)
    index = tmp_path / "training.json"
    before = json.loads(index.read_text())
    before["bytes"] = path.stat().st_size
    index.write_text(json.dumps(before))
    with pytest.raises(ResumeError, match=r"does not fit.*\n?.*stem\.weight"):
        fit("sandwich", settings(), tmp_path)


def test_one_checkpoint_is_kept_without_leftovers(tmp_path):
    fit("progressive-shrinking", settings(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000024.safetensors", "training.json"]


def test_non_finite_loss_keeps_the_checkpoint(tmp_path):
    calls = 0

    def breaks(outputs, targets):
        nonlocal calls
        calls += 1
        return loss(outputs, targets) * (float("nan") if calls > 7 else 1.0)

    s = settings(checkpoint_every=2)
    with pytest.raises(NonFiniteLoss, match=r"nan in step 8 \(phase 'single-path'.*Lower lr"):
        train(
            ToySupernet(), ToyData(), breaks, method="single-path", settings=s, checkpoint_dir=tmp_path,
        )  # fmt: skip
    whole, net = ToySupernet(), ToySupernet()
    train(whole, ToyData(), loss, method="single-path", settings=s)
    report = train(net, ToyData(), loss, method="single-path", settings=s, checkpoint_dir=tmp_path, resume=True)
    assert report.resumed_from == 6
    assert same(weights_of(net), weights_of(whole))


def test_non_finite_weights_are_not_saved(tmp_path):
    net = ToySupernet()

    def poison(state: TrainProgress) -> None:
        if state.step == 3:
            with torch.no_grad():
                net.grow[2].weight[-1, -1] = float("inf")

    with pytest.raises(NonFiniteLoss, match=r"grow\.2\.weight|nan|inf"):
        train(
            net, ToyData(), loss, method="single-path", settings=settings(checkpoint_every=2),
            checkpoint_dir=tmp_path, progress=poison,
        )  # fmt: skip
    assert (tmp_path / "step-00000002.safetensors").exists()


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_training_resume import LONG, fit
def progress(state):
    print(state.step, flush=True)
    time.sleep(0.003)
fit(sys.argv[2], LONG, sys.argv[3], progress)
"""
LONG = settings(steps=150, accumulate=2, checkpoint_every=1, evaluate_every=50)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_kill_9_at_random_moments(method, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wanted, _ = fit(method, LONG)
    rng = random.Random(method)
    for _ in range(2):
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), method, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # it trains
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    net, report = fit(method, LONG, tmp_path)
    torch.set_num_threads(threads)
    assert report.resumed_from is not None
    assert same(weights_of(net), weights_of(wanted))
