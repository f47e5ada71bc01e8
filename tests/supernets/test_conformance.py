"""Every registered family passes the conformance suite."""

import pytest
import torch

from search_spaces import mobilenetv3_space
from supernets import Supernet, build
from supernets.conformance import SupernetConformance
from supernets.mobilenetv3 import MobileNetV3Layout, MobileNetV3Supernet, StageLayout


class TestTiny(SupernetConformance):
    n_architectures = 8

    def make(self) -> Supernet:
        torch.manual_seed(0)
        return build("mobilenetv3-tiny")


class TestOfaLayers(SupernetConformance):
    """OFA's layout of layers (7x7 kernels, expansion 6, no elastic width) at a size that tests quickly."""

    def make(self) -> Supernet:
        torch.manual_seed(0)
        layout = MobileNetV3Layout(
            stem=16,
            first=16,
            stages=(StageLayout(24, 2, "relu", use_se=True), StageLayout(24, 1, "hardswish", use_se=False)),
            head=48,
            resolution=24,
        )
        space = mobilenetv3_space("test", stages=2, kernel_sizes=(3, 5, 7), expand_ratios=(3, 4, 6), depths=(2, 3, 4))
        return MobileNetV3Supernet(layout=layout, space=space, num_classes=7, dropout=0.3)


@pytest.mark.slow
class TestOfa(SupernetConformance):
    n_architectures = 2
    batch_size = 1

    def make(self) -> Supernet:
        torch.manual_seed(0)
        return build("ofa-mobilenetv3-w1.0")


def test_a_subclass_must_define_make() -> None:
    with pytest.raises(TypeError, match="make"):
        SupernetConformance().make()
