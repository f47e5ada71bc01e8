"""The MobileNetV3 family of Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791).

Genes, in this order: ``ks.i`` and ``e.i`` (kernel size and expansion ratio of block slot i), ``d.s`` (number
of blocks of stage s), then, where they are elastic, ``width`` and ``resolution``. A slot beyond its stage's
depth is inactive.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.gene import Gene
from search_spaces.registry import register_space
from search_spaces.space import SearchSpace


def mobilenetv3_space(
    name: str,
    *,
    stages: int,
    kernel_sizes: Sequence[int],
    expand_ratios: Sequence[int],
    depths: Sequence[int],
    widths: Sequence[float] = (1.0,),
    resolutions: Sequence[int] = (),
) -> SearchSpace:
    """Build a space of inverted-residual stages.

    Args:
        name: Name of the space.
        stages: Number of elastic stages.
        kernel_sizes: Depthwise kernel sizes, odd.
        expand_ratios: Expansion ratios of a block.
        depths: Numbers of blocks of a stage; the greatest is the number of block slots.
        widths: Width multipliers of all channels; one value means that width is not elastic.
        resolutions: Input sizes in pixels; one value means that resolution is not elastic, none the layout's own.
    """
    slots = max(depths)
    kernels, expands = [], []
    for stage in range(stages):
        for block in range(slots):
            layer = stage * slots + block
            deep_enough = [d for d in depths if d > block]
            # The slots that every depth has are always active.
            when = {} if len(deep_enough) == len(depths) else {f"d.{stage}": deep_enough}
            kernels.append(Gene(f"ks.{layer}", kernel_sizes, role="kernel", layer=layer, active_when=when))
            expands.append(Gene(f"e.{layer}", expand_ratios, role="expand", layer=layer, active_when=when))
    genes = [*kernels, *expands]
    genes += [Gene(f"d.{s}", depths, role="depth", layer=s * slots) for s in range(stages)]
    # A single value is not elastic, but the supernet must know it: it stays as a gene of one choice.
    if tuple(widths) != (1.0,):
        genes.append(Gene("width", widths, role="width"))
    if resolutions:
        genes.append(Gene("resolution", resolutions, role="resolution"))
    return SearchSpace(name, genes)


@register_space("ofa-mobilenetv3-w1.0")
def ofa_mobilenetv3_w10() -> SearchSpace:
    """OFA MobileNetV3, width 1.0: kernel 3/5/7, expand 3/4/6, depth 2/3/4 (2.2e19 networks)."""
    return _ofa("ofa-mobilenetv3-w1.0")


@register_space("ofa-mobilenetv3-w1.2")
def ofa_mobilenetv3_w12() -> SearchSpace:
    """OFA MobileNetV3, width 1.2: kernel 3/5/7, expand 3/4/6, depth 2/3/4 (2.2e19 networks)."""
    return _ofa("ofa-mobilenetv3-w1.2")


def _ofa(name: str) -> SearchSpace:
    return mobilenetv3_space(name, stages=5, kernel_sizes=(3, 5, 7), expand_ratios=(3, 4, 6), depths=(2, 3, 4))


@register_space("mobilenetv3-tiny")
def mobilenetv3_tiny() -> SearchSpace:
    """A MobileNetV3 for small images: kernel 3/5, expand 2/3/4, depth 1/2/3, width and resolution."""
    return mobilenetv3_space(
        "mobilenetv3-tiny",
        stages=3,
        kernel_sizes=(3, 5),
        expand_ratios=(2, 3, 4),
        depths=(1, 2, 3),
        widths=(0.5, 0.75, 1.0),
        resolutions=(12, 16),
    )
