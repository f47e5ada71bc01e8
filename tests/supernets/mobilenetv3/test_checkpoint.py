"""OFA's checkpoint files: both key layouts load, everything else is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search_spaces import mobilenetv3_space
from supernets import CheckpointError, SupernetError, build
from supernets.conformance import randomise
from supernets.mobilenetv3 import MobileNetV3Layout, MobileNetV3Supernet, StageLayout, load_ofa_checkpoint
from supernets.mobilenetv3.checkpoint import _names


@pytest.fixture
def net() -> MobileNetV3Supernet:
    torch.manual_seed(0)
    layout = MobileNetV3Layout(16, 16, (StageLayout(24, 2, "relu", use_se=True),), head=32, resolution=16)
    space = mobilenetv3_space("one", stages=1, kernel_sizes=(3, 5, 7), expand_ratios=(3, 4, 6), depths=(2, 3, 4))
    return MobileNetV3Supernet(layout=layout, space=space, num_classes=5).eval()


@pytest.fixture
def newer(net: MobileNetV3Supernet) -> dict[str, Tensor]:
    """The layout of the installed package: elastic layers wrap theirs once more than static ones."""
    state = {}
    for name, tensor in _names(net):
        if re.match(r"blocks\.[1-9]", name):
            name = name.replace(".bn.", ".bn.bn.").replace("conv.weight", "conv.conv.weight")
        state[name] = torch.randn(tensor.shape) if tensor.is_floating_point() else tensor.clone()
    return state


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layout of the first published files."""
    names = (re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", n) for n in state)
    renamed = zip(names, state.values(), strict=True)
    return {f"module.{n}": t for n, t in renamed if "num_batches_tracked" not in n}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("published", [True, False])
def test_both_layouts_load(
    net: MobileNetV3Supernet, newer: dict[str, Tensor], tmp_path: Path, published: bool, wrapped: bool
) -> None:
    state = older(newer) if published else newer
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "net.pth")
    randomise(net)
    load_ofa_checkpoint(net, tmp_path / "net.pth")
    block = net.blocks[1]
    assert torch.equal(block.depth_conv.transforms["7to5"], newer["blocks.1.conv.depth_conv.conv.7to5_matrix"])
    assert torch.equal(block.depth_bn.running_var, newer["blocks.1.conv.depth_conv.bn.bn.running_var"])
    assert block.se is not None
    assert torch.equal(block.se.expand_bias, newer["blocks.1.conv.depth_conv.se.fc.expand.bias"])
    assert torch.equal(net.head.weight[:, :, None, None], newer["feature_mix_layer.conv.weight"])
    assert not net.head.bias.any()


def test_faults_are_listed_together(net: MobileNetV3Supernet, newer: dict[str, Tensor], tmp_path: Path) -> None:
    before = {name: t.clone() for name, t in net.state_dict().items()}
    newer.pop("first_conv.conv.weight")
    newer["blocks.9.conv.point_linear.conv.weight"] = torch.zeros(1)
    newer["classifier.linear.bias"] = torch.zeros(1000)
    torch.save(newer, tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as caught:
        load_ofa_checkpoint(net, tmp_path / "net.pth")
    message = str(caught.value)
    assert "missing: first_conv.conv.weight" in message
    assert "unexpected: blocks.9.conv.point_linear.conv.weight" in message
    assert "classifier.linear.bias [1000], expected [5]" in message
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_foreign_files(net: MobileNetV3Supernet, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable torch checkpoint"):
        load_ofa_checkpoint(net, tmp_path / "net.pth")


def test_no_file_and_no_state(net: MobileNetV3Supernet, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        load_ofa_checkpoint(net, tmp_path / "absent.pth")
    torch.save({"epoch": 1}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        load_ofa_checkpoint(net, tmp_path / "net.pth")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_pickled_code_does_not_run(
    net: MobileNetV3Supernet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError):
        load_ofa_checkpoint(net, tmp_path / "net.pth")
    assert "code ran" not in capsys.readouterr().out


def test_tiny_has_no_checkpoint_format(tmp_path: Path) -> None:
    with pytest.raises(SupernetError, match="no option 'checkpoint'"):
        build("mobilenetv3-tiny", checkpoint=tmp_path / "net.pth")
