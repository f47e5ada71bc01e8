"""What mixtures must hold, for every family and both ways of routing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mixture_nets import ALL, KINDS, NETS, backward, make_net, output
from tiny_models import make_model

from supernets import Supernet, SupernetError, build, call, convert
from supernets.conformance import logits
from supernets.mixture import MixtureSpec, RoutedLayer, Router
from supernets.mixture.mixing import Mixed, mix
from supernets.mixture.router import Activations, RouterWeights
from supernets.mixture.routing import Routed
from supernets.mixture.window import Window

every_net = pytest.mark.parametrize("name", NETS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def architectures(net: Supernet, n: int, seed: int = 0) -> list[dict]:
    return net.space.decode(net.space.sample(n, np.random.default_rng(seed)))


def layers(net: Supernet) -> list[RoutedLayer]:
    assert net.mixture is not None
    return list(net.mixture.routed().values())


# -- equalities --------------------------------------------------------------------------------------


@every_kind
@every_net
def test_equal_experts_are_the_plain_supernet(name: str, kind: str) -> None:
    plain = make_net(name, None)
    net = make_net(name, kind, experts=3)
    missing = net.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith("mixtures.") for key in missing.missing_keys)
    with torch.no_grad():
        for layer in layers(net):
            for parameter in layer.owner.mixed_parameters():
                first, *others = layer.tensors(parameter)
                for other in others:
                    other.copy_(first)
    for arch in architectures(net, 6):
        plain.activate(arch)
        net.activate(arch)
        assert torch.equal(output(net), output(plain))


@every_kind
@every_net
def test_copies_without_noise_keep_every_subnet(name: str, kind: str) -> None:
    plain, net = make_net(name, None, random=False), make_net(name, kind, random=False, init="copies", noise=0.0)
    for arch in architectures(net, 4):
        plain.activate(arch)
        net.activate(arch)
        assert torch.equal(output(net), output(plain))


@every_kind
@every_net
def test_noise_is_not_seen_by_the_largest(name: str, kind: str) -> None:
    """The largest subnet equals the original to rounding, another one does not: its experts are not balanced."""
    plain = make_net(name, None, random=False)
    net = make_net(name, kind, experts=3, random=False, init="copies", noise=0.5)
    torch.testing.assert_close(output(net), output(plain), rtol=1e-4, atol=1e-5)
    apart = {}
    for end in (net.space.largest, net.space.smallest):
        net.activate(net.space.decode(end[None])[0])
        for layer in layers(net):
            original = torch.stack([layer.owner.cut("weight", e) for e in layer.tensors("weight")]).mean(0)
            distance = (layer.value("weight") - original).norm() / original.norm()
            apart.setdefault(id(layer), []).append(float(distance))
    assert all(largest < 1e-5 and smallest > 1e-3 for largest, smallest in apart.values())


@every_kind
@pytest.mark.parametrize("name", [n if n in NETS else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_collapse_equals_the_mixture(name: str, kind: str) -> None:
    net = make_net(name, kind, experts=3)
    for arch in architectures(net, 20):
        net.activate(arch)
        with torch.no_grad():
            twin = logits(call(net.extract(arch), net.example_inputs(batch_size=2)))
        torch.testing.assert_close(twin, output(net), rtol=1e-5, atol=1e-5)


@every_kind
@every_net
def test_a_one_hot_router_is_that_expert(name: str, kind: str) -> None:
    net = make_net(name, kind, experts=3)
    for chosen in range(3):
        plain = make_net(name, None)
        state = {k: v for k, v in net.state_dict().items() if not k.startswith("mixtures.")}
        plain.load_state_dict(state)
        own = dict(plain.named_parameters())
        names = {id(p): n for n, p in net.named_parameters()}
        with torch.no_grad():
            for layer in layers(net):
                router = layer.routing.router
                router.out_weight.zero_()
                router.out_bias.view(-1, 3).copy_(torch.eye(3)[chosen] * 1e4)
                for parameter, tensor in layer.owner.mixed_parameters().items():
                    own[names[id(tensor)]].copy_(layer.tensors(parameter)[chosen])
        for arch in architectures(net, 3):
            plain.activate(arch)
            net.activate(arch)
            assert torch.equal(output(net), output(plain))


@every_net
def test_a_narrow_subnet_has_a_prefix_of_the_coefficients(name: str) -> None:
    """For the same features a neuron has the same coefficients at every width."""
    net = make_net(name, "neuron")
    narrower = 0
    for arch in architectures(net, 5):
        net.activate(arch)
        for layer in layers(net):
            router, phi = layer.routing.router, layer.routing._phi()
            with torch.no_grad():
                whole = router.coefficients(
                    phi, RouterWeights(router.hidden_weight, router.hidden_bias, *router.by_row())
                )
            mine = layer.coefficients()
            piece = layer.owner.cut_rows(torch.arange(len(whole)))
            torch.testing.assert_close(mine, whole[piece], rtol=1e-6, atol=1e-6)
            chunks = 2 if len(piece) > 1 and (piece.diff() > 1).any() else 1
            prefix = torch.arange(len(piece) // chunks)
            assert torch.equal(piece.view(chunks, -1)[0], prefix)
            narrower += len(piece) < len(whole)
    assert narrower


# -- gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "dim"), [(1, 0), (5, 0), (4, 1)])
@pytest.mark.parametrize("top_k", [None, 2])
def test_gradients_of_a_mixture(rows: int, dim: int, top_k: int | None) -> None:
    """The backward pass is the derivative of the plain sum, for experts and router."""
    torch.manual_seed(0)
    router = Router(6, 7, rows, 3, temperature=0.7, top_k=top_k).double()
    phi = torch.rand(6, dtype=torch.float64)
    weights = [router.hidden_weight, router.hidden_bias, *router.by_row()]
    experts = [torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    direction = torch.randn(5, 4, dtype=torch.float64)

    activations = router.activations(phi, RouterWeights(*weights))
    coefficients = activations.coefficients
    shape = [1, 1]
    shape[dim] = -1
    plain = sum(e * coefficients[:, j].view(shape) for j, e in enumerate(experts))
    value = mix(experts, coefficients, dim)
    torch.testing.assert_close(value, plain)
    detached = Activations(*(t.detach() for t in activations))
    routed = Routed.apply(detached, phi, router, None, *weights)
    mixed = Mixed.apply(value.detach(), dim, None, routed, *experts)
    variables = [*router.parameters(), *experts]
    wanted = torch.autograd.grad((plain * direction).sum(), variables)
    found = torch.autograd.grad((mixed * direction).sum(), variables)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("experts", [1, 2, 3])
def test_gradients_of_a_slice(experts: int, kind: str) -> None:
    """They are those that autograd gives through slices and a plain sum, and zero outside the slice."""
    net = make_net("mobilenetv3-tiny", kind, experts=experts)
    layer = next(x for x in layers(net) if x.owner.weight.shape[0] > 8)
    layer.owner.set_active(6, 5)
    router, phi = layer.routing.router, layer.routing._phi()
    weight, bias = (layer.owner.cut_rows(t) if kind == "neuron" else t for t in router.by_row())
    plain = router.coefficients(phi, RouterWeights(router.hidden_weight, router.hidden_bias, weight, bias))
    parts = [layer.owner.cut("weight", t) for t in layer.tensors("weight")]
    wanted_value = sum(p * plain[:, j].view(-1, 1, 1, 1) for j, p in enumerate(parts))
    variables = [*layer.tensors("weight"), *router.parameters()]
    direction = torch.randn_like(wanted_value)
    wanted = torch.autograd.grad((wanted_value * direction).sum(), variables)
    for _ in range(2):  # the coefficients' node serves every pass
        value = layer.active("weight")
        torch.testing.assert_close(value, wanted_value)
        found = torch.autograd.grad((value * direction).sum(), variables)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_window_is_a_view_of_contiguous_tensors() -> None:
    whole = torch.arange(24.0).view(4, 6)[1:]  # begins within its storage
    window = Window.of(whole[:2, :5], whole)
    assert window is not None
    assert torch.equal(window.view(whole), whole[:2, :5])
    padded, part = window.padded(whole)
    part.fill_(1.0)
    assert float(padded.sum()) == 10.0
    assert torch.equal(padded[:2, :5], torch.ones(2, 5))
    assert Window.of(whole[:2].clone(), whole) is None
    assert Window.of(whole.T[:2], whole.T) is None


@every_kind
@every_net
def test_routers_learn_from_the_first_step(name: str, kind: str) -> None:
    net = make_net(name, kind, random=False).train()
    for arch in (net.space.decode(net.space.largest[None])[0], *architectures(net, 1)):
        net.zero_grad()
        net.activate(arch)
        backward(net, 8)
        used = [m for m in net.modules() if isinstance(m, Router) and m.out_bias.grad is not None]
        assert used
        for router in used:
            gradients = [p.grad for p in router.parameters()]
            assert all(g is not None and bool(g.any()) for g in gradients)


def test_equal_experts_teach_no_router() -> None:
    net = make_net("bert", "neuron", random=False, noise=0.0).train()
    backward(net)
    for router in (m for m in net.modules() if isinstance(m, Router)):
        assert router.out_weight.grad is not None
        assert float(router.out_weight.grad.abs().max()) < 1e-5


# -- what is remembered ------------------------------------------------------------------------------


def naive(net: Supernet) -> list[torch.Tensor]:
    """Return the mixtures of the active architecture, computed anew."""
    found = []
    for layer in layers(net):
        layer.forget()
        found += [layer.value(name).clone() for name in layer.owner.mixed_parameters()]
    return found


def values(net: Supernet) -> list[torch.Tensor]:
    return [layer.value(name) for layer in layers(net) for name in layer.owner.mixed_parameters()]


def _optimiser(kind: str):
    def change(net: Supernet) -> None:
        optimiser = {
            "sgd": lambda p: torch.optim.SGD(p, lr=0.5),
            "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
            "foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
            "fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        }[kind](net.parameters())
        backward(net)
        optimiser.step()

    return change


def _load(net: Supernet) -> None:
    net.load_state_dict({k: v * 1.5 if v.is_floating_point() else v for k, v in net.state_dict().items()})


def _assign(net: Supernet) -> None:
    net.load_state_dict({k: v * 1.5 for k, v in net.state_dict().items()}, assign=True)


def _in_place(net: Supernet) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)


def _detached(net: Supernet) -> None:
    for parameter in net.parameters():
        parameter.detach().add_(0.01)


def _router_only(net: Supernet) -> None:
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Router):
                module.hidden_bias.add_(1.0)


CHANGES = {
    **{kind: _optimiser(kind) for kind in ("sgd", "adamw", "foreach", "fused")},
    "load": _load,
    "assign": _assign,
    "in place": _in_place,
    "detached": _detached,
    "router": _router_only,
    "half and back": lambda net: net.bfloat16().float(),
    "sorting": lambda net: net.sort_by_importance(),
}


@every_kind
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_mixtures_are_never_stale(change: str, training: bool, kind: str) -> None:
    net = make_net("bert", kind).train(training)
    a, b = architectures(net, 2)
    for number, arch in enumerate((a, b, a)):
        net.activate(arch)
        before = [v.clone() for v in values(net)]
        CHANGES[change](net)
        after = [v.clone() for v in values(net)]
        fresh = naive(net)
        assert all(torch.equal(x, y) for x, y in zip(after, fresh, strict=True))
        if number == 0:  # sorting again, say, changes nothing
            assert not all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
        net.activate(b if arch is a else a)
        assert all(torch.equal(x.clone(), y) for x, y in zip(values(net), naive(net), strict=True))


def test_a_mixture_is_computed_once() -> None:
    """Once an activation in eval mode; once an architecture and step in training, whatever the micro-batches."""
    net = make_net("bert", "neuron")
    layer = layers(net)[0]
    a, b = architectures(net, 2)
    net.activate(a)
    start = layer.mixes
    for _ in range(3):
        output(net)
    assert layer.mixes - start == 2  # weight and bias
    net.activate(a)
    output(net)
    assert layer.mixes - start == 4
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        start = layer.mixes
        for _ in range(3):
            for arch in (a, b):
                net.activate(arch)
                backward(net)
        assert layer.mixes - start == 4
        optimiser.step()


@every_kind
def test_a_router_runs_once_for_all_that_it_mixes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_net("bert", kind).train()
    calls = {"activations": 0, "gradients": 0}
    for method in calls:
        plain = getattr(Router, method)

        def counted(self, *args, method=method, plain=plain):
            calls[method] += 1
            return plain(self, *args)

        monkeypatch.setattr(Router, method, counted)
    backward(net)
    routers = sum(isinstance(m, Router) for m in net.modules())
    assert calls == {"activations": routers, "gradients": routers}
    backward(net)  # the same architecture and weights: a micro-batch
    assert calls == {"activations": routers, "gradients": 2 * routers}


def test_a_copy_remembers_nothing() -> None:
    net = make_net("bert", "neuron").train()
    backward(net)
    copied = copy.deepcopy(net)
    assert all(remembered(layer) == 0 for layer in layers(copied))
    assert all(remembered(layer) > 0 for layer in layers(net))
    mine, theirs = ({id(p) for p in n.parameters()} for n in (net, copied))
    assert not mine & theirs
    assert all(id(p) in theirs for layer in layers(copied) for p in layer.routing.router.parameters())


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_a_copy_and_its_original_go_their_own_ways(kind: str, training: bool) -> None:
    net = make_net("hat", kind, dropout=0.0).train(training)
    first, second = architectures(net, 2)
    net.activate(first)
    expected = output(net)
    copied = copy.deepcopy(net)
    assert torch.equal(output(copied), expected)
    with torch.no_grad():
        for parameter in copied.mixture.parameters():
            parameter.add_(0.1)
    assert not torch.equal(output(copied), expected)
    copied.activate(second)
    other = output(copied)
    assert torch.equal(output(net), expected)
    net.activate(second)
    assert not torch.equal(output(net), other)
    copied.load_state_dict(net.state_dict())
    assert torch.equal(output(copied), output(net))


def remembered(layer: RoutedLayer) -> int:
    """Return how many tensors of weight, bias and coefficients there are."""
    return sum(map(len, layer._cache.values())) + len(layer.routing._cache)


def test_remembered_mixtures_are_bounded() -> None:
    net = make_net("bert", "layer").train()
    for arch in architectures(net, 20):
        net.activate(arch)
        output(net)
    assert all(remembered(layer) <= 3 * 8 for layer in layers(net))
    net.eval()
    for arch in architectures(net, 3):
        net.activate(arch)
        output(net)
    assert all(remembered(layer) <= 3 for layer in layers(net))


def test_a_mixture_of_inference_mode_can_be_trained_with() -> None:
    net = make_net("bert", "neuron").train()
    with torch.inference_mode():
        call(net, net.example_inputs())
    backward(net)
    assert layers(net)[0].experts[0]["weight"].grad is not None


def test_several_forward_passes_before_their_backward_passes() -> None:
    """Teachers, gradient accumulation: gradients add up whatever lies between."""
    net = make_net("bert", "neuron").train()
    a, b = architectures(net, 2)

    def passes(order: str) -> list[torch.Tensor]:
        net.zero_grad()
        waiting = []
        for arch in (a, b):
            net.activate(arch)
            waiting.append(logits(call(net, net.example_inputs(batch_size=2))).square().sum())
            if order == "at once":
                torch.autograd.backward(waiting.pop())
        for value in waiting:
            torch.autograd.backward(value)
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    net.eval()  # no dropout
    for x, y in zip(passes("later"), passes("at once"), strict=True):
        torch.testing.assert_close(x, y)


# -- options -----------------------------------------------------------------------------------------


def test_wrong_options_are_told() -> None:
    for message, wrong in {
        "one of none, layer, neuron": {"mixture": "neural"},
        "experts must be": {"mixture": "layer", "experts": 0},
        "belong to a mixture": {"experts": 2},
        "did you mean 'temperature'": {"mixture": "layer", "mixture_options": {"temperatur": 1}},
        "temperature must be": {"mixture": "layer", "mixture_options": {"temperature": 0}},
        "top_k must be": {"mixture": "layer", "mixture_options": {"top_k": 3}},
        "would lose the original": {"mixture": "layer", "mixture_options": {"top_k": 1, "init": "copies"}},
        "encoding must be one of": {"mixture": "layer", "mixture_options": {"encoding": "fin"}},
        "noise must be": {"mixture": "layer", "mixture_options": {"noise": float("nan")}},
        "init must be": {"mixture": "layer", "mixture_options": {"init": "zeros"}},
    }.items():
        with pytest.raises(SupernetError, match=message):
            build("mobilenetv3-tiny", **wrong)
        with pytest.raises(SupernetError, match=message):
            convert(make_model("bert"), **wrong)
    with pytest.raises(SupernetError, match="not a mixture"):
        MixtureSpec.from_json({"experts": 2})
    assert build("mobilenetv3-tiny", mixture="none").mixture is None


def test_a_mixture_is_not_mixed_again() -> None:
    net = make_net("bert", "layer")
    with pytest.raises(SupernetError, match="mixture already"):
        net.mix(MixtureSpec("neuron"))


def test_configuration_records_the_mixture() -> None:
    net = make_net("bert", "neuron", experts=3, encoding="one-hot", temperature=0.5, top_k=2, noise=0.0, hidden=9)
    recorded = net.config()["mixture"]
    assert recorded["kind"] == "neuron"
    assert MixtureSpec.from_json(recorded) == net.mixture.spec
    assert "mixture" not in make_net("bert", None).config()


def test_top_k_leaves_the_others_out() -> None:
    net = make_net("bert", "neuron", experts=4, top_k=2, init="independent")
    net.activate(architectures(net, 1)[0])
    for table in net.mixture.coefficients().values():
        assert torch.equal(table.gt(0).sum(1), torch.full((len(table),), 2))
        torch.testing.assert_close(table.sum(1), torch.ones(len(table)))
