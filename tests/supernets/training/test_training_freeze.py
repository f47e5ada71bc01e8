"""Parameters that match `freeze` stay as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_toy import ToyData, ToySupernet, loss, same, settings, weights_of

from supernets.training import InvalidSettings, TrainSettings, train
from supernets.training.freezing import freeze_faults, frozen, trainable
from supernets.training.optimisation import make_optimizer

FREEZE = ("stem.*", "grow.?.bias")


class Stopped(Exception):
    pass


def held(name: str) -> bool:
    return name.startswith("stem.") or (name.startswith("grow.") and name.endswith(".bias"))


def fit(s: TrainSettings, folder=None, progress=None, net: ToySupernet | None = None) -> ToySupernet:
    net = net or ToySupernet(dropout=0.2)
    train(
        net, ToyData(), loss, method="sandwich", settings=s, checkpoint_dir=folder, resume=True, progress=progress,
        device="cpu",
    )  # fmt: skip
    return net


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_parameters_stay_and_all_others_learn(optimizer):
    before = weights_of(ToySupernet())
    net = fit(settings(optimizer=optimizer, lr=0.01, freeze=FREEZE), net=ToySupernet())
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == held(name), name


def test_frozen_parameters_have_no_gradient_and_no_state_of_the_optimiser_meanwhile():
    net = ToySupernet()
    seen = []
    for p in net.parameters():
        p.grad = torch.ones_like(p)  # of the user's own work

    def progress(state):
        seen.append({n for n, p in net.named_parameters() if p.requires_grad or p.grad is not None})

    fit(settings(freeze=FREEZE), progress=progress, net=net)
    assert all(not any(map(held, names)) and len(names) > 5 for names in seen)
    optimised = {id(p) for g in make_optimizer(net, settings(freeze=FREEZE)).param_groups for p in g["params"]}
    assert optimised == {id(p) for n, p in net.named_parameters() if not held(n)}


@pytest.mark.parametrize("fails", [False, True])
def test_parameters_take_gradients_afterwards_as_they_did_before(fails):
    net = ToySupernet()
    net.head.bias.requires_grad_(False)  # by the user

    def progress(state):
        if fails:
            raise Stopped

    if fails:
        with pytest.raises(Stopped):
            fit(settings(freeze=FREEZE), progress=progress, net=net)
    else:
        fit(settings(freeze=FREEZE), net=net)
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["head.bias"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_with_the_same_weights(optimizer, tmp_path):
    s = settings(optimizer=optimizer, lr=0.01, freeze=FREEZE)

    def progress(state):
        if state.step == 13:
            raise Stopped

    with pytest.raises(Stopped):
        fit(s, tmp_path, progress)
    assert same(weights_of(fit(s, tmp_path)), weights_of(fit(s)))


def test_a_checkpoint_is_of_its_frozen_parameters(tmp_path):
    fit(settings(freeze=FREEZE), tmp_path)
    with pytest.raises(Exception, match="freeze"):
        fit(settings(freeze=("stem.*",)), tmp_path)


def test_a_pattern_without_a_match_names_parameters():
    net = ToySupernet()
    with pytest.raises(InvalidSettings, match=r"'\*embeddings\*' matches no parameter; .*stem\.weight"):
        fit(settings(freeze=("stem.*", "*embeddings*")), net=net)
    assert same(weights_of(net), weights_of(ToySupernet()))


def test_nothing_left_to_train_is_refused():
    with pytest.raises(InvalidSettings, match="leaves no parameter to train"):
        fit(settings(freeze=("*",)))


@pytest.mark.parametrize("freeze", ["stem.*", (1,), ("",), None])
def test_freeze_is_a_list_of_patterns(freeze):
    with pytest.raises(InvalidSettings, match="freeze must be a list of patterns"):
        fit(settings(freeze=freeze))


def test_exceptions_learn_and_the_last_pattern_that_matches_counts() -> None:
    net = nn.ModuleDict({"gate": nn.Linear(2, 2), "body": nn.Linear(2, 2)})
    only = ("*", "!gate.*")
    assert [id(p) for p in trainable(net, only)] == [id(p) for p in net["gate"].parameters()]
    assert len(trainable(net, ("!gate.*", "*"))) == 0
    assert len(trainable(net, ("*", "!gate.*", "*.bias"))) == 1
    with frozen(net, only):
        assert [n for n, p in net.named_parameters() if p.requires_grad] == ["gate.weight", "gate.bias"]
    assert all(p.requires_grad for p in net.parameters())
    assert freeze_faults(net, only) == []
    assert "'!router.*' matches no parameter" in freeze_faults(net, ("*", "!router.*"))[0]
