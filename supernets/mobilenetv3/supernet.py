"""The MobileNetV3 supernet of Once-for-All and its relatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from search_spaces import SearchSpace
from supernets.base import Architecture, Inputs, Loss, Supernet, call
from supernets.blocks import BlockSlot
from supernets.elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticInvertedResidual,
    ElasticLinear,
    ElasticPointwiseConv2d,
    ElasticStage,
    MixableModule,
    Statistics,
    expanded_channels,
)
from supernets.elastic.module import ElasticModule
from supernets.errors import SupernetError
from supernets.mixture import RoutedBlock
from supernets.mobilenetv3 import blocks as static_blocks
from supernets.mobilenetv3 import importance, static
from supernets.mobilenetv3.costs import CostTable
from supernets.mobilenetv3.layout import MobileNetV3Layout
from supernets.mobilenetv3.plan import Genes
from supernets.registry import register_family


@register_family
class MobileNetV3Supernet(Supernet):
    """Stem, a static block, stages of elastic inverted residuals, and a head.

    Cai et al., Once-for-All, ICLR 2020, arXiv:1908.09791. Elastic are the kernel size and expansion of each
    block, the depth of each stage and, where the space has such genes, the width of all channels and the
    resolution of the input. Each subnet is a ``torchvision.models.MobileNetV3``. The first fully connected layer has a
    bias, as in torchvision; it is zero where OFA has none.

    Args:
        layout: Channels at width 1, strides, activations; the dataclass or its JSON.
        space: The search space, as `search_spaces.mobilenetv3_space` builds it, or its JSON.
        in_channels: Channels of the images.
        num_classes: Number of outputs.
        dropout: Probability before the last layer, in train mode.
        bn_eps: Added to variances.
        bn_momentum: Weight of a new batch in the running statistics.

    Raises:
        SupernetError: Space and layout do not fit together.
    """

    family: ClassVar[str] = "mobilenetv3"

    def __init__(
        self,
        *,
        layout: MobileNetV3Layout | Mapping[str, Any],
        space: SearchSpace | Mapping[str, Any],
        in_channels: int = 3,
        num_classes: int = 1000,
        dropout: float = 0.1,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        _check_options(in_channels, num_classes, dropout)
        self.layout = layout if isinstance(layout, MobileNetV3Layout) else MobileNetV3Layout.from_json(layout)
        self.space = space if isinstance(space, SearchSpace) else SearchSpace.from_json(space)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dropout = dropout
        self._bn = {"eps": bn_eps, "momentum": bn_momentum}
        self._genes = Genes(self.space, self.layout)
        self._costs = CostTable(self.space, self._genes, in_channels=in_channels, num_classes=num_classes)
        self._build(self._genes.scaled(max(self._genes.widths)))
        self._norms = tuple(m for m in self.modules() if isinstance(m, ElasticBatchNorm2d))
        self._active: dict[str, Any] = {}
        self.activate(self.space.decode(self.space.largest[None])[0])

    def _build(self, largest: MobileNetV3Layout) -> None:
        genes, bn = self._genes, self._bn
        self.stem_conv = ElasticConv2d(self.in_channels, largest.stem, (3,), stride=2)
        self.stem_bn = ElasticBatchNorm2d(largest.stem, **bn)
        self.first_block = ElasticInvertedResidual(
            largest.stem,
            largest.stem,
            largest.first,
            kernel_sizes=(3,),
            stride=1,
            activation="relu",
            use_se=False,
            **bn,
        )
        stages, channels = [], largest.first
        for s, of in enumerate(largest.stages):
            blocks = []
            for slot in range(s * genes.slots, (s + 1) * genes.slots):
                stride = of.stride if slot % genes.slots == 0 else 1
                hidden = expanded_channels(channels, max(genes.expand_ratios[slot]))
                block = ElasticInvertedResidual(
                    channels,
                    hidden,
                    of.channels,
                    kernel_sizes=genes.kernel_sizes[slot],
                    stride=stride,
                    activation=of.activation,
                    use_se=of.use_se,
                    **bn,
                )
                blocks.append(block)
                channels = of.channels
            stages.append(ElasticStage(blocks))
        self.stages = nn.ModuleList(stages)
        self.last_conv = ElasticPointwiseConv2d(channels, largest.last)
        self.last_bn = ElasticBatchNorm2d(largest.last, **bn)
        self.head = ElasticLinear(largest.last, largest.head)
        self.classifier = ElasticLinear(largest.head, self.num_classes)

    # -- switching -----------------------------------------------------------------------------------

    @property
    def active(self) -> dict[str, Any]:
        """The active architecture, a dict gene name -> value in canonical form."""
        return dict(self._active)

    def activate(self, arch: Architecture) -> None:
        """Switch to an architecture, and to the supernet's own normalisation statistics.

        Raises:
            InvalidArchitecture: The architecture is not in the space.
        """
        canonical = self._canonical(arch)
        genes, layout = self._genes, self._genes.scaled(self._genes.width(canonical))
        self.stem_conv.set_active(self.in_channels, layout.stem, 3)
        self.stem_bn.set_active(layout.stem)
        self.first_block.set_active(layout.stem, layout.stem, layout.first, 3)
        plans = iter(genes.blocks(canonical, inactive=True))
        for s, stage in enumerate(self._stages()):
            stage.set_active(canonical[f"d.{s}"])
            for block in stage.all_blocks():
                plan = next(plans)
                block.set_active(plan.in_channels, plan.hidden_channels, plan.out_channels, plan.kernel_size)
        self.last_conv.set_active(layout.stages[-1].channels, layout.last)
        self.last_bn.set_active(layout.last)
        self.head.set_active(layout.last, layout.head)
        self.classifier.set_active(layout.head, self.num_classes)
        self._active = canonical
        self._switch_mixture(canonical)

    def routed_blocks(self) -> list[RoutedBlock]:
        """Return the 1x1 convolutions of each block, and the last one with the hidden fully connected layer."""
        found = []
        for i, block in enumerate(self.blocks):
            layers: dict[str, MixableModule] = {f"blocks.{i}.project_conv": block.project_conv}
            if block.expand_conv is not None:
                layers = {f"blocks.{i}.expand_conv": block.expand_conv, **layers}
            found.append(RoutedBlock(f"blocks.{i}", layers))
        return [*found, RoutedBlock("head", {"last_conv": self.last_conv, "head": self.head})]

    def _stages(self) -> Iterator[ElasticStage]:
        return cast("Iterator[ElasticStage]", iter(self.stages))

    @property
    def blocks(self) -> list[ElasticInvertedResidual]:
        """All inverted-residual blocks, the static first one included, in order."""
        return [self.first_block, *(block for stage in self._stages() for block in stage.all_blocks())]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``[n, num_classes]`` of images ``[n, in_channels, h, w]``."""
        x = self.stem_conv(x)
        if self.training:
            # Depthwise convolutions run backward three times as fast so; eval mode keeps the twin's layout.
            x = x.contiguous(memory_format=torch.channels_last)
        x = functional.hardswish(self.stem_bn(x), inplace=True)
        x = self.first_block(x)
        for stage in self.stages:
            x = stage(x)
        x = functional.hardswish(self.last_bn(self.last_conv(x)), inplace=True)
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        x = functional.hardswish(self.head(x), inplace=True)
        x = functional.dropout(x, self.dropout, self.training)
        logits: Tensor = self.classifier(x)
        return logits

    # -- subnets -------------------------------------------------------------------------------------

    def static_config(self, arch: Architecture) -> dict[str, Any]:
        """Return the JSON arguments of the plain network of an architecture.

        See `supernets.mobilenetv3.static.build_static` for how to rebuild it with and without this package.
        """
        return static.static_config(
            self._genes,
            self._canonical(arch),
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            dropout=self.dropout,
            bn=self._bn,
        )

    def block_slots(self) -> list[BlockSlot]:
        """Return stem, first block, slots of inverted residuals and head."""
        return static_blocks.block_slots(
            self._genes, self.space, in_channels=self.in_channels, num_classes=self.num_classes, bn=self._bn
        )

    def rebuild_source(self, arch: Architecture) -> str:
        """Return Python source of ``build_model()``, which needs torchvision alone."""
        return static.rebuild_source(self.static_config(arch))

    def extract(self, arch: Architecture) -> nn.Module:
        """Return the subnet as a ``torchvision.models.MobileNetV3`` with copied weights.

        In the mode (train or eval) of the supernet. When ``arch`` is the active architecture, the
        statistics that `recalibrate` gave it come along; otherwise the supernet's own are copied.
        """
        if self._canonical(arch) != self._active:
            with self.activated(arch):
                return self.extract(arch)
        state = {f"{place}.{name}": t for place, layer in self._places() for name, t in layer.active_state().items()}
        return static.with_weights(self.static_config(arch), state).train(self.training)

    def _places(self) -> Iterator[tuple[str, ElasticModule]]:
        """Yield the active layers, each with its name in the torchvision network."""
        yield from (("features.0.0", self.stem_conv), ("features.0.1", self.stem_bn))
        number = 1
        for block in (self.first_block, *(b for stage in self._stages() for b in stage.active_blocks())):
            for i, (layer, norm) in enumerate(block.parts()):
                place = f"features.{number}.block.{i}"
                if norm is None:
                    yield place, layer
                else:
                    yield from ((f"{place}.0", layer), (f"{place}.1", norm))
            number += 1
        yield from ((f"features.{number}.0", self.last_conv), (f"features.{number}.1", self.last_bn))
        yield from (("classifier.0", self.head), ("classifier.3", self.classifier))

    # -- normalisation statistics --------------------------------------------------------------------

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Compute the batch-norm statistics of the active architecture from batches of inputs.

        OFA's formula (see `ElasticBatchNorm2d`). The statistics belong to this activation alone: the next
        `activate` drops them. Dropout is off. Inputs are fitted to the active resolution.

        Raises:
            SupernetError: There is no batch.
        """
        training = self.training
        self.eval()
        for norm in self._norms:
            norm.start_gathering()
        seen = 0
        try:
            for batch in batches:
                call(self, self.fit_inputs(batch))
                seen += 1
        except BaseException:
            self._stop_gathering(keep=False)
            raise
        finally:
            self.train(training)
        self._stop_gathering(keep=True)
        if not seen:
            raise SupernetError("recalibration needs at least one batch of inputs, got none")

    def _stop_gathering(self, *, keep: bool) -> None:
        for norm in self._norms:
            norm.stop_gathering(keep=keep)

    def _statistics(self) -> list[Statistics | None]:
        return [norm.calibrated for norm in self._norms]

    def _set_statistics(self, statistics: list[Statistics | None]) -> None:
        for norm, calibrated in zip(self._norms, statistics, strict=True):
            norm.calibrated = calibrated

    # -- inputs --------------------------------------------------------------------------------------

    def example_inputs(
        self, arch: Architecture | None = None, batch_size: int = 1, resolution: int | None = None
    ) -> Inputs:
        """Return ``(images,)``, random and always the same, ``[batch_size, in_channels, r, r]``.

        Args:
            arch: Whose resolution to use. Default: the active architecture.
            batch_size: Number of images.
            resolution: Another width and height, in pixels.
        """
        size = resolution or self._genes.resolution(self._active if arch is None else self._canonical(arch))
        generator = torch.Generator().manual_seed(0)
        like = self.classifier.weight
        images = torch.randn(batch_size, self.in_channels, size, size, generator=generator)
        return (images.to(like.device, like.dtype),)

    def fit_inputs(self, inputs: Inputs, arch: Architecture | None = None) -> Inputs:
        """Resize images to the resolution of an architecture (bilinear, anti-aliased) where it is a gene.

        Args:
            inputs: Images ``[n, c, h, w]``, float, anywhere in a tuple or mapping; other tensors are left.
            arch: Whose resolution to use. Default: the active architecture.
        """
        if len(self._genes.resolutions) == 1:
            return inputs
        size = self._genes.resolution(self._active if arch is None else self._canonical(arch))
        if isinstance(inputs, Mapping):
            return {name: _resized(t, size) for name, t in inputs.items()}
        return tuple(_resized(t, size) for t in inputs)

    # -- costs, order, description -------------------------------------------------------------------

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return exact costs of each row: ``params_m``, ``macs_m``, ``size_mb``; each float64 ``[n]``.

        Multiply-accumulates are those of convolutions and fully connected layers, squeeze-and-excite
        included, for one image at the row's resolution. Equal to what `extract` has.
        """
        parameters, buffers, counters, macs = self._costs(G).T
        itemsize = self.classifier.weight.element_size()
        return {
            "params_m": parameters / 1e6,
            "macs_m": macs / 1e6,
            "size_mb": ((parameters + buffers) * itemsize + counters * 8) / 1e6,
        }

    def sort_by_importance(
        self,
        batches: Iterable[Inputs] | None = None,
        loss: Loss | None = None,
        *,
        layers: bool = False,
        judge: Supernet | None = None,
    ) -> None:
        """Reorder channels by L1 norm, in place; the largest subnet keeps its function. Data are not looked at.

        The hidden channels of each block as in OFA, and, where width is elastic, the channels between blocks,
        along each residual stream together, and those of the head.
        """
        importance.sort(self, across_blocks=len(self._genes.widths) > 1)

    def config(self) -> dict[str, Any]:
        """Return the JSON arguments with which the family rebuilds this supernet, without weights."""
        return {
            "layout": self.layout.to_json(),
            "space": self.space.to_json(),
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "bn_eps": self._bn["eps"],
            "bn_momentum": self._bn["momentum"],
            **self.mixture_config(),
        }


def _check_options(in_channels: int, num_classes: int, dropout: float) -> None:
    for name, value in (("in_channels", in_channels), ("num_classes", num_classes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SupernetError(f"{name} must be a positive integer, got {value!r}")
    if not 0 <= dropout < 1:
        raise SupernetError(f"dropout must be at least 0 and below 1, got {dropout!r}")


def _resized(t: Tensor, size: int) -> Tensor:
    if t.ndim != 4 or t.shape[-2:] == (size, size):
        return t
    return functional.interpolate(t, (size, size), mode="bilinear", antialias=True, align_corners=False)
