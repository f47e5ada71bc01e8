"""The named sizes of the MobileNetV3 family."""

from __future__ import annotations

from os import PathLike

from search_spaces import get_space
from supernets.mobilenetv3.checkpoint import load_ofa_checkpoint
from supernets.mobilenetv3.layout import ofa_layout, tiny_layout
from supernets.mobilenetv3.supernet import MobileNetV3Supernet
from supernets.registry import register_supernet


def _ofa(
    name: str, width: float, num_classes: int, dropout: float, checkpoint: str | PathLike[str] | None
) -> MobileNetV3Supernet:
    net = MobileNetV3Supernet(layout=ofa_layout(width), space=get_space(name), num_classes=num_classes, dropout=dropout)
    if checkpoint is not None:
        load_ofa_checkpoint(net, checkpoint)
    return net


@register_supernet("ofa-mobilenetv3-w1.0")
def ofa_mobilenetv3_w10(
    *, num_classes: int = 1000, dropout: float = 0.1, checkpoint: str | PathLike[str] | None = None
) -> MobileNetV3Supernet:
    """Once-for-All MobileNetV3, static width 1.0, 224 pixels.

    Args:
        num_classes: Number of outputs.
        dropout: Probability before the last layer, in train mode.
        checkpoint: A published OFA ``.pth`` file to take the weights from.
    """
    return _ofa("ofa-mobilenetv3-w1.0", 1.0, num_classes, dropout, checkpoint)


@register_supernet("ofa-mobilenetv3-w1.2")
def ofa_mobilenetv3_w12(
    *, num_classes: int = 1000, dropout: float = 0.1, checkpoint: str | PathLike[str] | None = None
) -> MobileNetV3Supernet:
    """Once-for-All MobileNetV3, static width 1.2, 224 pixels.

    Args:
        num_classes: Number of outputs.
        dropout: Probability before the last layer, in train mode.
        checkpoint: A published OFA ``.pth`` file to take the weights from.
    """
    return _ofa("ofa-mobilenetv3-w1.2", 1.2, num_classes, dropout, checkpoint)


@register_supernet("mobilenetv3-tiny")
def mobilenetv3_tiny(*, in_channels: int = 1, num_classes: int = 10, dropout: float = 0.0) -> MobileNetV3Supernet:
    """A MobileNetV3 for images of 12 or 16 pixels: three stages, elastic width and resolution too.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of outputs.
        dropout: Probability before the last layer, in train mode.
    """
    return MobileNetV3Supernet(
        layout=tiny_layout(),
        space=get_space("mobilenetv3-tiny"),
        in_channels=in_channels,
        num_classes=num_classes,
        dropout=dropout,
    )
