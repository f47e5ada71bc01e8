"""Settings, schedule, evaluation, progress and statistics."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import nn
from training_toy import ToyData, ToySupernet, loss, same, settings, weights_of

from supernets.training import (
    InvalidSettings,
    Phase,
    RichProgress,
    TrainingError,
    TrainProgress,
    TrainSettings,
    UnknownMethod,
    evaluate_subnet,
    settle_statistics,
    top1_score,
    train,
)
from supernets.training.data import training_stream
from supernets.training.optimisation import learning_rate, make_optimizer

CPU = torch.device("cpu")


def test_faults_of_settings_and_options_come_together():
    s = TrainSettings(
        epochs=0, optimizer="sdg", lr=-1, decay="cosin", momentum=1.0, weight_decay=float("nan"), warmup=1,
        accumulate=0, clip_norm=0, amp="fp8", seed=-1, checkpoint_every=-1, evaluate_every=-1, evaluate_batches=0,
        calibration_batches=1.5, options={"random_subnets": -3, "nonsense": 1},
    )  # fmt: skip
    with pytest.raises(InvalidSettings) as error:
        train(ToySupernet(), ToyData(), loss, method="sandwich", settings=s)
    assert len(error.value.faults) == 17
    assert "did you mean 'sgd'" in str(error.value)
    assert "17 training settings need your attention" in str(error.value)


@pytest.mark.parametrize("values", [{}, {"epochs": 1, "steps": 2}])
def test_either_epochs_or_steps(values):
    assert TrainSettings(**values).faults() == [
        f"give either epochs or steps, got epochs={values.get('epochs')!r} and steps={values.get('steps')!r}"
    ]


def test_unknown_method_and_faults_together():
    with pytest.raises(UnknownMethod, match="single-path"):
        train(ToySupernet(), ToyData(), loss, method="singlepath", settings=settings())
    with pytest.raises(InvalidSettings, match="unknown training method") as error:
        train(ToySupernet(), ToyData(), loss, method="singlepath", settings=settings(lr=0))
    assert len(error.value.faults) == 2


def test_fp16_needs_cuda():
    with pytest.raises(TrainingError, match="needs CUDA"):
        train(ToySupernet(), ToyData(), loss, method="sandwich", settings=settings(amp="fp16"), device="cpu")


def test_bf16_trains_with_float32_weights():
    net, dtypes = ToySupernet(), set()

    def spy(outputs, targets):
        dtypes.add(outputs.dtype)
        return loss(outputs, targets)

    s = settings(amp="bf16", steps=4, evaluate_every=0)
    report = train(net, ToyData(), spy, method="single-path", settings=s, score=None, device="cpu")
    assert dtypes == {torch.bfloat16}
    assert report.loss > 0
    assert all(p.dtype is torch.float32 for p in net.parameters())


def test_epochs_and_steps():
    assert settings(steps=None, epochs=3).total_steps(6) == 18
    assert settings(steps=None, epochs=3, accumulate=4).total_steps(6) == 4
    assert settings(steps=None, epochs=1, accumulate=40).total_steps(6) == 1
    assert settings(steps=5).total_steps(6) == 5


def test_learning_rate_warms_up_and_decays_in_each_phase():
    s = settings(lr=1.0, warmup=0.2)
    phase = Phase("p", 10, 20, 0.5)
    rates = [learning_rate(i, phase, s) for i in range(10, 20)]
    assert rates[:3] == pytest.approx([0.25, 0.5, 0.5])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05
    assert learning_rate(10, phase, settings(lr=1.0, warmup=0.0)) == 0.5
    s = settings(lr=1.0, warmup=0.2, decay="linear")
    rates = [learning_rate(i, phase, s) for i in range(10, 20)]
    assert rates == pytest.approx([0.25, 0.5, *(0.5 * i / 8 for i in range(8, 0, -1))])


def test_norms_and_biases_do_not_decay():
    net = ToySupernet()
    decayed, plain = make_optimizer(net, settings(weight_decay=0.1)).param_groups
    assert {id(p) for p in decayed["params"]} == {id(p) for p in net.parameters() if p.ndim > 1}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_clipping_limits_the_gradient():
    seen = []

    class Spy(ToySupernet):
        pass

    net = Spy()
    original = torch.optim.SGD.step

    def step(self, *args, **kwargs):
        grads = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        seen.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))))
        return original(self, *args, **kwargs)

    torch.optim.SGD.step = step
    try:
        train(net, ToyData(), loss, method="sandwich", settings=settings(clip_norm=0.01, steps=3), device="cpu")
    finally:
        torch.optim.SGD.step = original
    assert len(seen) == 3
    assert max(seen) == pytest.approx(0.01, rel=1e-3)


def test_all_methods_learn():
    for method, steps in [("sandwich", 60), ("single-path", 120), ("progressive-shrinking", 150)]:
        net = ToySupernet()
        report = train(net, ToyData(), loss, method=method, settings=settings(steps=steps), device="cpu")
        assert report.top1_largest > 85, method
        assert report.top1_smallest > 45, method
        assert not net.training
        assert net.active == net.space.decode(net.space.largest[None])[0]


def test_evaluation_leaves_no_trace():
    net = ToySupernet(dropout=0.1)
    train(net, ToyData(), loss, method="sandwich", settings=settings(steps=10), device="cpu")
    net.train()
    net.norms[1].eval()  # a frozen part stays frozen
    weights, arch = weights_of(net), net.active
    (smallest,) = net.space.decode(net.space.smallest[None])
    values = [
        evaluate_subnet(net, smallest, ToyData(), top1_score, device=CPU, batches=1, calibration_batches=2)
        for _ in range(2)
    ]
    assert values[0] == values[1]
    assert same(weights, weights_of(net))
    assert net.active == arch
    assert (net.training, net.norms[0].training, net.norms[1].training) == (True, True, False)


def test_evaluation_that_fails_leaves_no_trace():
    net = ToySupernet()

    def breaks(outputs, targets):
        raise ZeroDivisionError

    (smallest,) = net.space.decode(net.space.smallest[None])
    with pytest.raises(ZeroDivisionError):
        evaluate_subnet(net, smallest, ToyData(), breaks, device=CPU, batches=1, calibration_batches=2)
    assert net.training
    assert net.active["depth"] == 3


def test_top1_score_ignores_negative_targets():
    logits = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [0, 1]]])
    targets = torch.tensor([[0, -100], [0, 1]])
    assert top1_score(logits, targets) == (200.0, 3)
    assert top1_score((logits,), targets) == (200.0, 3)


def test_own_statistics_are_those_of_the_largest_subnet():
    net, data = ToySupernet(dropout=0.5), ToyData()
    train(net, data, loss, method="sandwich", settings=settings(), device="cpu")
    grown = net.grow[0](net.stem(data.inputs))  # both calibration batches have 48 inputs
    halves = grown[:48], grown[48:]
    torch.testing.assert_close(net.norms[0].running_mean, grown.mean(0), atol=1e-5, rtol=1e-5)
    var = sum(h.var(0) for h in halves) / 2
    torch.testing.assert_close(net.norms[0].running_var, var, atol=1e-5, rtol=1e-5)
    assert {n.momentum for n in net.norms} == {0.1}
    outputs = net(data.inputs)
    assert float((outputs.argmax(-1) == data.targets).float().mean()) > 0.85


def test_dropout_does_not_shift_the_statistics():
    net, twin = ToySupernet(dropout=0.5), ToySupernet(dropout=0.0)
    for one in (net, twin):
        settle_statistics(one, ToyData().calibration())
    assert same(weights_of(net), weights_of(twin))


def test_settling_without_norms_or_in_train_mode():
    net = ToySupernet(norm=False)
    before = weights_of(net)
    settle_statistics(net, ToyData().calibration())
    assert same(before, weights_of(net))
    net = ToySupernet().train()
    settle_statistics(net, ToyData().calibration())
    assert all(m.training for m in net.modules())


def test_wrong_epoch_length_is_an_error():
    class Short(ToyData):
        steps_per_epoch = 7

    with pytest.raises(TrainingError, match="epoch 0 of the training data has 6 batches but steps_per_epoch is 7"):
        train(ToySupernet(), Short(), loss, method="sandwich", settings=settings(steps=8), device="cpu")


def test_stream_goes_on_in_the_middle_of_an_epoch():
    data = ToyData()
    stream = training_stream(data, 0)
    whole = [next(stream) for _ in range(20)]
    later = training_stream(data, 9)
    for i in range(9, 20):
        assert torch.equal(next(later).targets, whole[i].targets)


def test_progress_and_report():
    states: list[TrainProgress] = []
    s = settings(steps=20, evaluate_every=5)
    report = train(ToySupernet(), ToyData(), loss, method="sandwich", settings=s, progress=states.append, device="cpu")
    assert [p.step for p in states] == list(range(1, 21))
    assert states[3].top1_largest is None
    assert states[4].top1_largest is not None
    assert {p.total for p in states} == {20}
    assert all(p.images_per_second > 0 for p in states)
    assert [h["step"] for h in report.history] == [5, 10, 15, 20]
    assert report.images == 20 * 16
    assert report.epochs == pytest.approx(20 / 6)
    assert report.to_json()["settings"]["steps"] == 20


def test_no_score_no_evaluation():
    report = train(ToySupernet(), ToyData(), loss, method="sandwich", settings=settings(), score=None, device="cpu")
    assert report.history == ()
    assert report.top1_largest is None


def state(step: int) -> TrainProgress:
    return TrainProgress(step, 10, "kernel", 1.25, 0.1, 97.5, 81.0, 1234.0)


def test_rich_progress_writes_lines_without_a_terminal():
    out = io.StringIO()
    with RichProgress(Console(file=out, force_terminal=False), interval=1000) as progress:
        for i in range(1, 11):
            progress(state(i))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2  # the first and the last
    assert lines[-1].startswith("training 10/10 (100 %)")
    assert "loss 1.250  top1 97.5 largest, 81.0 smallest  1,234 inputs/s" in lines[-1]


def test_rich_progress_shows_a_bar_in_a_terminal():
    out = io.StringIO()
    progress = RichProgress(Console(file=out, force_terminal=True, width=150))
    with progress:
        progress(state(1))
        progress(state(7))
    text = out.getvalue()
    assert "7/10" in text
    assert "97.5 largest" in text
    assert progress._bar is None


def test_frozen_weights_stay():
    net = ToySupernet()
    net.stem.requires_grad_(False)
    before = net.stem.weight.clone()
    train(net, ToyData(), loss, method="sandwich", settings=settings(weight_decay=0.1), device="cpu")
    assert torch.equal(before, net.stem.weight)
    assert isinstance(net, nn.Module)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("amp", ["auto", "fp16", "off"])
def test_cuda_training_and_resume(amp, tmp_path):
    s = settings(amp=amp, steps=40)
    net = ToySupernet()

    def stop(p: TrainProgress) -> None:
        if p.step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(net, ToyData(), loss, method="sandwich", settings=s, checkpoint_dir=tmp_path, progress=stop)
    net = ToySupernet()
    report = train(net, ToyData(), loss, method="sandwich", settings=s, checkpoint_dir=tmp_path, resume=True)
    assert report.resumed_from == 15
    assert report.top1_largest > 80
