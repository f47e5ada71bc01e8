"""Elastic inverted-residual block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.batchnorm import ElasticBatchNorm2d
from supernets.elastic.depthwise import ElasticDepthwiseConv2d
from supernets.elastic.module import ElasticModule
from supernets.elastic.pointwise import ElasticPointwiseConv2d
from supernets.elastic.squeeze_excite import ElasticSqueezeExcite

_ACTIVATIONS: dict[str, Callable[[Tensor, bool], Tensor]] = {"relu": functional.relu, "hardswish": functional.hardswish}


class ElasticInvertedResidual(nn.Module):
    """Expand (1x1), depthwise, squeeze-and-excite, project (1x1), and a shortcut where the shape allows.

    The block of MobileNetV3 (Howard et al., ICCV 2019, arXiv:1905.02244) with elastic kernel size, expansion
    and channels.

    Args:
        in_channels: Largest number of input channels.
        hidden_channels: Largest number of hidden channels; ``in_channels`` means a block without expansion.
        out_channels: Largest number of output channels.
        kernel_sizes: Depthwise kernel sizes.
        stride: Stride of the depthwise convolution.
        activation: ``"relu"`` or ``"hardswish"``.
        use_se: Whether squeeze-and-excite follows the depthwise convolution.
        eps: Of batch normalisation.
        momentum: Of batch normalisation.

    Attributes:
        residual: Whether the input is added to the output: stride 1 and as many channels out as in.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        kernel_sizes: Sequence[int],
        stride: int,
        activation: str,
        use_se: bool,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.activation = activation
        self.residual = stride == 1 and in_channels == out_channels
        self._activate = _ACTIVATIONS[activation]
        expands = hidden_channels != in_channels
        self.expand_conv = ElasticPointwiseConv2d(in_channels, hidden_channels) if expands else None
        self.expand_bn = ElasticBatchNorm2d(hidden_channels, eps=eps, momentum=momentum) if expands else None
        self.depth_conv = ElasticDepthwiseConv2d(hidden_channels, kernel_sizes, stride)
        self.depth_bn = ElasticBatchNorm2d(hidden_channels, eps=eps, momentum=momentum)
        self.se = ElasticSqueezeExcite(hidden_channels) if use_se else None
        self.project_conv = ElasticPointwiseConv2d(hidden_channels, out_channels)
        self.project_bn = ElasticBatchNorm2d(out_channels, eps=eps, momentum=momentum)

    def set_active(self, in_channels: int, hidden_channels: int, out_channels: int, kernel_size: int) -> None:
        """Use the first channels of each kind and a kernel of ``kernel_size``."""
        if self.expand_conv is not None and self.expand_bn is not None:
            self.expand_conv.set_active(in_channels, hidden_channels)
            self.expand_bn.set_active(hidden_channels)
        self.depth_conv.set_active(hidden_channels, kernel_size)
        self.depth_bn.set_active(hidden_channels)
        if self.se is not None:
            self.se.set_active(hidden_channels)
        self.project_conv.set_active(hidden_channels, out_channels)
        self.project_bn.set_active(out_channels)

    @property
    def active_in(self) -> int:
        """Active number of input channels."""
        return self.depth_conv.active_channels if self.expand_conv is None else self.expand_conv.active_in

    @property
    def active_hidden(self) -> int:
        """Active number of hidden channels."""
        return self.depth_conv.active_channels

    @property
    def active_out(self) -> int:
        """Active number of output channels."""
        return self.project_conv.active_out

    @property
    def active_kernel(self) -> int:
        """Active kernel size."""
        return self.depth_conv.active_kernel

    def parts(self) -> Iterator[tuple[ElasticModule, ElasticBatchNorm2d | None]]:
        """Yield the layers in the order of computation, each with the normalisation that follows it."""
        if self.expand_conv is not None:
            yield self.expand_conv, self.expand_bn
        yield self.depth_conv, self.depth_bn
        if self.se is not None:
            yield self.se, None
        yield self.project_conv, self.project_bn

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, in, h, w]`` to ``[n, out, ceil(h / stride), ceil(w / stride)]``."""
        y: Tensor = x
        if self.expand_conv is not None and self.expand_bn is not None:
            y = self._activate(self.expand_bn(self.expand_conv(y)), True)
        y = self._activate(self.depth_bn(self.depth_conv(y)), True)
        if self.se is not None:
            y = self.se(y)
        y = self.project_bn(self.project_conv(y))
        return y.add_(x) if self.residual else y
