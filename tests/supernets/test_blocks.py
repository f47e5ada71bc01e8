"""The blocks that families tell are their networks, piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import mobilenetv3_space
from supernets import Supernet, SupernetError, blocks_of, build, families_with_blocks
from supernets.blocks import Block, BlockSlot
from supernets.mobilenetv3 import MobileNetV3Layout, MobileNetV3Supernet, StageLayout


def small_stages() -> Supernet:
    layout = MobileNetV3Layout(
        stem=16, first=16, stages=(StageLayout(24, 2, "relu", True), StageLayout(24, 1, "hardswish", False)), head=48,
        resolution=24,
    )  # fmt: skip
    space = mobilenetv3_space("test", stages=2, kernel_sizes=(3, 5, 7), expand_ratios=(3, 4, 6), depths=(2, 3, 4))
    return MobileNetV3Supernet(layout=layout, space=space, in_channels=3, num_classes=7)


@pytest.fixture(params=["mobilenetv3-tiny", "stages"])
def net(request: pytest.FixtureRequest) -> Supernet:
    torch.manual_seed(0)
    return small_stages() if request.param == "stages" else build("mobilenetv3-tiny")


def architectures(net: Supernet, n: int = 12) -> list[dict[str, object]]:
    space = net.space
    rows = [space.smallest[None], space.largest[None], space.sample(n, np.random.default_rng(1))]
    return space.decode(np.concatenate(rows))


def test_the_blocks_of_a_network_fit_together_and_cost_what_it_costs(net: Supernet) -> None:
    for arch in architectures(net):
        x, parameters = net.example_inputs(arch, 2)[0], 0
        for block in blocks_of(net, arch):
            module, (given,) = block.make(2)
            assert given.shape == x.shape, block.key
            x = module(x)
            parameters += sum(p.numel() for p in module.parameters())
        plain = net.extract(arch).eval()
        assert x.shape == plain(net.example_inputs(arch, 2)[0]).shape
        assert parameters == sum(p.numel() for p in plain.parameters())


def test_blocks_with_the_weights_of_a_network_are_the_network(net: Supernet) -> None:
    """Loading the plain network's tensors in order gives its very outputs: nothing between the blocks is missing."""
    net.eval()
    for arch in architectures(net, 2):
        plain = net.extract(arch)
        (x,) = net.example_inputs(arch)
        whole = nn.Sequential(*(block.make(1)[0] for block in blocks_of(net, arch)))
        tensors = list(plain.state_dict().values())
        assert [t.shape for t in whole.state_dict().values()] == [t.shape for t in tensors]
        whole.load_state_dict(dict(zip(whole.state_dict(), tensors, strict=True)))
        torch.testing.assert_close(whole.eval()(x), plain(x))


def test_equal_keys_are_equal_modules_and_slots_know_every_block(net: Supernet) -> None:
    known: dict[str, str] = {}
    for slot in net.block_slots():
        for block in slot.states(net.space):
            if block is not None and block.key not in known:
                known[block.key] = repr(block.make(1)[0])
    assert len(set(known.values())) <= len(known)
    for arch in architectures(net, 40):
        for block in blocks_of(net, arch):
            assert block.key in known
    for slot in net.block_slots()[::4]:
        for block in filter(None, slot.states(net.space)):
            module, (x,) = block.make(3)
            assert repr(module) == known[block.key]
            assert len(x) == 3
            assert not module.training


def test_making_blocks_leaves_the_random_numbers_alone(net: Supernet) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    blocks_of(net, net.active)[0].make(1)
    assert torch.equal(torch.rand(1), expected)


def test_modules_have_no_class_of_ours_inside(net: Supernet) -> None:
    for block in blocks_of(net, net.active):
        homes = {type(m).__module__.split(".")[0] for m in block.make(1)[0].modules()}
        assert homes <= {"torch", "torchvision"}


def test_families_without_blocks_say_who_has_them() -> None:
    net = build("mobilenetv3-tiny")
    assert "mobilenetv3" in families_with_blocks()
    with pytest.raises(SupernetError, match=r"does not tell its blocks.*families that do: .*mobilenetv3"):
        Supernet.block_slots(net)


def test_slots_of_too_many_genes_are_refused() -> None:
    space = build("mobilenetv3-tiny").space
    slot = BlockSlot(
        "everything", tuple(g.name for g in space.genes), lambda _: Block("x", lambda _: (nn.Identity(), ()))
    )
    with pytest.raises(SupernetError, match="split it into slots of fewer genes"):
        slot.states(space)
