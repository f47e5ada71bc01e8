# ruff: noqa: S101 - a suite of tests
"""The suite that every supernet family passes: subclass `SupernetConformance` in a test module.

Needs pytest. In float32, eval mode, TF32 off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces import InvalidArchitecture
from supernets.base import Inputs, Supernet, call
from supernets.elastic import ElasticModule
from supernets.errors import CheckpointError
from supernets.registry import build
from supernets.serialization import from_payload, load, save, to_payload

OURS = ("supernets", "search_spaces", "predictors", "nassearch")


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts tensor operations, views included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def count_macs(module: nn.Module, inputs: Inputs) -> int:
    """Return the multiply-accumulates of convolutions and linear layers in one forward pass."""
    total = 0

    def add(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        per_output = layer.weight[0].numel()
        total += output.numel() * per_output

    hooks = [m.register_forward_hook(add) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        call(module, inputs)
    for hook in hooks:
        hook.remove()
    return total


def randomise(net: nn.Module, seed: int = 0) -> None:
    """Move all parameters and running statistics off their initial values, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            scale = float(parameter.std()) if parameter.numel() > 1 else 0.0
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1 * (scale or 1.0))
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def logits(output: Any) -> Tensor:
    """Return the tensor to compare of a module's output: itself, its ``logits``, or its first item."""
    if isinstance(output, Tensor):
        return output
    tensor: Tensor = output.logits if hasattr(output, "logits") else output[0]
    return tensor


class SupernetConformance:
    """The tests of one family; a subclass whose name starts with ``Test`` gives `make`.

    Attributes:
        n_architectures: Number of random architectures per test.
        batch_size: Of the inputs that outputs are compared on.
        switching_computes: Whether `activate` may run tensor operations (mixtures and expert banks).
    """

    n_architectures = 4
    batch_size = 3
    switching_computes = False

    def make(self) -> Supernet:
        """Return a new supernet on the CPU, the same at each call."""
        raise TypeError(f"{type(self).__name__} must define make()")

    def original(self, net: Supernet) -> nn.Module:
        """Return the model that the largest subnet equals bit for bit. Default: its plain twin."""
        return net.extract(self.largest(net))

    def count_macs(self, module: nn.Module, inputs: Inputs) -> int:
        """Return the multiply-accumulates of one forward pass of an extracted module."""
        return count_macs(module, inputs)

    # -- helpers -------------------------------------------------------------------------------------

    @pytest.fixture
    def net(self) -> Iterator[Supernet]:
        """A new supernet in eval mode whose every weight and statistic matters."""
        before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        net = self.make().float().eval()
        randomise(net)
        yield net
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

    def rows(self, net: Supernet) -> NDArray[np.int64]:
        """Return the rows to test: largest, smallest and random ones."""
        sampled = net.space.sample(self.n_architectures, np.random.default_rng(7))
        return np.concatenate([net.space.largest[None], net.space.smallest[None], sampled])

    def architectures(self, net: Supernet) -> list[dict[str, Any]]:
        """Return the architectures of `rows`."""
        return net.space.decode(self.rows(net))

    def largest(self, net: Supernet) -> dict[str, Any]:
        """Return the largest architecture."""
        return net.space.decode(net.space.largest[None])[0]

    def two(self, net: Supernet) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return two different random architectures."""
        a, b = self.architectures(net)[2:4]
        assert a != b
        return a, b

    def output(self, net: Supernet) -> Tensor:
        """Return what the active subnet computes for its example inputs."""
        with torch.no_grad():
            return logits(call(net, net.example_inputs(batch_size=self.batch_size)))

    def static_output(self, net: Supernet, arch: dict[str, Any]) -> Tensor:
        """Return what the extracted subnet computes for the same inputs."""
        with torch.no_grad():
            return logits(call(net.extract(arch), net.example_inputs(arch, batch_size=self.batch_size)))

    def batches(self, net: Supernet) -> list[Inputs]:
        """Return two batches of different sizes to recalibrate with."""
        return [net.example_inputs(batch_size=n) for n in (8, 5)]

    def evaluate(self, net: Supernet, arch: dict[str, Any]) -> Tensor:
        """Return the output of an architecture with recalibrated statistics."""
        net.activate(arch)
        net.recalibrate(self.batches(net))
        return self.output(net)

    @staticmethod
    def state(net: Supernet) -> dict[str, Tensor]:
        """Return a copy of the state dict."""
        return {name: t.clone() for name, t in net.state_dict().items()}

    @staticmethod
    def assert_same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
        """Check that two state dicts are equal bit for bit."""
        assert a.keys() == b.keys()
        assert [n for n in a if not torch.equal(a[n], b[n])] == []

    @staticmethod
    def assert_close(a: Tensor, b: Tensor) -> None:
        """Check equality to 1e-5, relative and absolute."""
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)

    # -- exactness -----------------------------------------------------------------------------------

    def test_starts_with_the_largest(self, net: Supernet) -> None:
        """A new supernet has its largest architecture active."""
        assert net.active == self.largest(net)

    def test_largest_equals_the_original(self, net: Supernet) -> None:
        """The largest subnet equals the original bit for bit."""
        with torch.no_grad():
            expected = logits(call(self.original(net), net.example_inputs(batch_size=self.batch_size)))
        assert torch.equal(self.output(net), expected)

    def test_reordering_keeps_the_largest(self, net: Supernet) -> None:
        """Sorting by importance keeps the largest subnet to 1e-5, and extraction exact."""
        before = self.output(net)
        net.sort_by_importance()
        self.assert_close(self.output(net), before)
        for arch in self.architectures(net):
            net.activate(arch)
            self.assert_close(self.static_output(net, arch), self.output(net))

    def test_extract_equals_the_active_subnet(self, net: Supernet) -> None:
        """The plain twin computes what the switched supernet computes, from whichever architecture is active."""
        for arch in self.architectures(net):
            twin = self.static_output(net, arch)
            net.activate(arch)
            self.assert_close(twin, self.output(net))

    def test_architectures_differ(self, net: Supernet) -> None:
        """Switching has an effect: another architecture gives another output."""
        a, b = self.two(net)
        net.activate(a)
        output = self.output(net)
        net.activate(b)
        other = self.output(net)
        assert output.shape != other.shape or not torch.allclose(output, other)

    def test_extract_is_plain(self, net: Supernet) -> None:
        """An extracted module has no class of ours inside, the supernet's mode, and its own memory."""
        arch, _ = self.two(net)
        twin = net.extract(arch)
        kinds = {type(m).__module__.partition(".")[0] for m in twin.modules()}
        assert not kinds & set(OURS)
        assert not any(m.training for m in twin.modules())
        before = self.state(net)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.fill_(float("nan"))
        self.assert_same_state(self.state(net), before)
        assert net.train().extract(arch).training

    def test_extract_brings_recalibrated_statistics(self, net: Supernet) -> None:
        """Statistics recalibrated for the active subnet are extracted with it, and only then."""
        a, b = self.two(net)
        own = self.static_output(net, a)
        expected = self.evaluate(net, a)
        self.assert_close(self.static_output(net, a), expected)
        net.activate(b)
        assert torch.equal(self.static_output(net, a), own)

    # -- switching -----------------------------------------------------------------------------------

    def test_evaluation_leaves_no_trace(self, net: Supernet) -> None:
        """A, B, A with recalibration: the first and third results and the largest subnet are unchanged."""
        a, b = self.two(net)
        largest, state = self.output(net), self.state(net)
        first, _, third = (self.evaluate(net, arch) for arch in (a, b, a))
        assert torch.equal(first, third)
        net.activate(self.largest(net))
        assert torch.equal(self.output(net), largest)
        self.assert_same_state(self.state(net), state)

    def test_activated_restores(self, net: Supernet) -> None:
        """`activated` restores subnet and recalibrated statistics, after an exception too."""
        a, b = self.two(net)
        before = self.evaluate(net, a)
        with net.activated(b):
            assert net.active == net.space.decode(net.space.encode([b]))[0]
            self.evaluate(net, b)
        assert torch.equal(self.output(net), before)
        with pytest.raises(KeyError), net.activated(b):
            raise KeyError
        assert net.active == net.space.decode(net.space.encode([a]))[0]
        assert torch.equal(self.output(net), before)

    def test_activation_drops_recalibrated_statistics(self, net: Supernet) -> None:
        """The next activation, of the same architecture too, uses the supernet's own statistics."""
        a, _ = self.two(net)
        net.activate(a)
        own = self.output(net)
        self.evaluate(net, a)
        net.activate(a)
        assert torch.equal(self.output(net), own)

    def test_recalibration_keeps_the_mode(self, net: Supernet) -> None:
        """Recalibration works from train mode, leaves it on, and gives the same statistics."""
        a, _ = self.two(net)
        expected = self.evaluate(net, a)
        net.train()
        net.activate(a)
        net.recalibrate(self.batches(net))
        assert net.training
        assert torch.equal(self.output(net.eval()), expected)

    def test_activation_allocates_nothing(self, net: Supernet) -> None:
        """Switching runs no tensor operation and keeps every weight where it is."""
        places = [p.data_ptr() for p in (*net.parameters(), *net.buffers())]
        with _Operations() as operations:
            for arch in self.architectures(net):
                net.activate(arch)
        assert self.switching_computes or operations.names == []
        assert places == [p.data_ptr() for p in (*net.parameters(), *net.buffers())]

    def test_invalid_architectures(self, net: Supernet) -> None:
        """An architecture outside the space is refused, and the active one stays."""
        good = self.largest(net)
        gene = net.space.genes[0].name
        for bad in ({**good, gene: "no such value"}, {**good, "no such gene": 1}, {}):
            with pytest.raises(InvalidArchitecture):
                net.activate(bad)
            with pytest.raises(InvalidArchitecture):
                net.extract(bad)
        assert net.active == good

    # -- training ------------------------------------------------------------------------------------

    def test_gradients_stay_in_the_active_slice(self, net: Supernet) -> None:
        """Training a subnet moves the parameters of its slice and no other."""
        net.train()
        for arch in self.architectures(net):
            net.zero_grad(set_to_none=True)
            net.activate(arch)
            loss = logits(call(net, net.example_inputs(batch_size=8))).square().sum()
            torch.autograd.backward(loss)
            allowed = active_masks(net)
            moved = 0
            for name, parameter in net.named_parameters():
                if parameter.grad is None:
                    continue
                assert torch.isfinite(parameter.grad).all(), name
                if name in allowed:
                    assert not parameter.grad[~allowed[name]].any(), name
                moved += int(parameter.grad.ne(0).sum())
            assert moved > 0.1 * sum(p.numel() for p in net.extract(arch).parameters())

    # -- costs, inputs, files ------------------------------------------------------------------------

    def test_analytic_is_exact(self, net: Supernet) -> None:
        """Parameters, size and multiply-accumulates equal those of the extracted module."""
        rows = self.rows(net)
        costs = net.analytic(rows)
        assert {"params_m", "macs_m", "size_mb"} <= set(costs)
        for i, arch in enumerate(net.space.decode(rows)):
            twin = net.extract(arch)
            parameters = list(twin.parameters())
            size = sum(t.numel() * t.element_size() for t in (*parameters, *twin.buffers()))
            macs = self.count_macs(twin, net.example_inputs(arch))
            assert round(costs["params_m"][i] * 1e6) == sum(p.numel() for p in parameters)
            assert round(costs["size_mb"][i] * 1e6) == size
            assert round(costs["macs_m"][i] * 1e6) == macs

    def test_example_inputs_repeat(self, net: Supernet) -> None:
        """Example inputs are always the same, whatever the global random state."""
        tensors = [_tensors(net.example_inputs(batch_size=2)) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))
        assert all(len(t) == 2 for t in tensors[0])

    def test_save_and_load(self, net: Supernet, tmp_path: Path) -> None:
        """A saved supernet comes back bit for bit; damage is told."""
        net.activate(self.two(net)[0])
        save(net, tmp_path / "net")
        random_state = torch.get_rng_state()
        loaded = load(tmp_path / "net")
        assert torch.equal(torch.get_rng_state(), random_state)
        assert loaded.space == net.space
        assert loaded.config() == net.config()
        self.assert_same_state(self.state(loaded), self.state(net))
        loaded.activate(net.active)
        assert torch.equal(self.output(loaded), self.output(net))
        save(net, tmp_path / "net")
        (weights,) = (tmp_path / "net").glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match="truncated"):
            load(tmp_path / "net")

    def test_refuses_a_folder_of_another_supernet(self, net: Supernet, tmp_path: Path) -> None:
        """Saving never replaces a supernet of another space."""
        name = "mobilenetv3-tiny" if net.space.name != "mobilenetv3-tiny" else "ofa-mobilenetv3-w1.0"
        save(build(name), tmp_path)
        with pytest.raises(CheckpointError, match="another"):
            save(net, tmp_path)

    def test_payload(self, net: Supernet) -> None:
        """A payload rebuilds the supernet bit for bit, from read-only arrays, in memory of its own."""
        description, arrays = to_payload(net)
        for array in arrays.values():
            array.setflags(write=False)
        copy = from_payload(description, arrays)
        before = self.state(net)
        self.assert_same_state(self.state(copy), before)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.zero_()
        self.assert_same_state(self.state(net), before)


def active_masks(net: nn.Module) -> dict[str, Tensor]:
    """Return name -> bool mask of the active elements, for all parameters of elastic layers."""
    masks: dict[str, Tensor] = {}
    for prefix, module in net.named_modules():
        if not isinstance(module, ElasticModule):
            continue
        active = module.active_parameters()
        for name, parameter in module.named_parameters():
            mask = torch.zeros(parameter.shape, dtype=torch.bool)
            view = active.get(name)
            if view is not None:
                offset = view.storage_offset() - parameter.storage_offset()
                mask.as_strided(view.shape, view.stride(), offset).fill_(True)
            masks[f"{prefix}.{name}"] = mask
    return masks


def _tensors(inputs: Inputs) -> list[Tensor]:
    return list(inputs.values()) if isinstance(inputs, dict) else list(inputs)  # type: ignore[arg-type]
