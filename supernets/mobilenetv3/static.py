"""Subnets as plain torchvision networks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pprint import pformat
from typing import Any

import torch
from torch import Tensor, nn

from supernets.mobilenetv3.plan import BlockPlan, Genes


def _block_json(plan: BlockPlan) -> dict[str, Any]:
    return {
        "input_channels": plan.in_channels,
        "kernel": plan.kernel_size,
        "expanded_channels": plan.hidden_channels,
        "out_channels": plan.out_channels,
        "use_se": plan.use_se,
        "activation": "HS" if plan.activation == "hardswish" else "RE",
        "stride": plan.stride,
        "dilation": 1,
        "width_mult": 1.0,
    }


def static_config(
    genes: Genes,
    arch: Mapping[str, Any],
    *,
    in_channels: int,
    num_classes: int,
    dropout: float,
    bn: Mapping[str, float],
) -> dict[str, Any]:
    """Return the JSON from which `build_static` builds the network of an architecture."""
    width = genes.width(arch)
    return network_config(
        [genes.first_block(width), *genes.blocks(arch)],
        resolution=genes.resolution(arch),
        head=genes.scaled(width).head,
        in_channels=in_channels,
        num_classes=num_classes,
        dropout=dropout,
        bn=bn,
    )


def network_config(
    blocks: Sequence[BlockPlan],
    *,
    resolution: int,
    head: int,
    in_channels: int,
    num_classes: int,
    dropout: float,
    bn: Mapping[str, float],
) -> dict[str, Any]:
    """Return the JSON from which `build_static` builds a network of these blocks."""
    return {
        "class": "torchvision.models.MobileNetV3",
        "in_channels": in_channels,
        "resolution": resolution,
        "inverted_residual_setting": [_block_json(b) for b in blocks],
        "last_channel": head,
        "num_classes": num_classes,
        "dropout": dropout,
        "batch_norm": dict(bn),
    }


def build_static(config: Mapping[str, Any]) -> nn.Module:
    """Build a ``torchvision.models.MobileNetV3`` from `static_config`; `rebuild_source` hands this very code out."""
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    model = MobileNetV3(
        [InvertedResidualConfig(**b) for b in config["inverted_residual_setting"]],
        last_channel=config["last_channel"],
        num_classes=config["num_classes"],
        dropout=config["dropout"],
        norm_layer=partial(nn.BatchNorm2d, **config["batch_norm"]),
    )
    if config["in_channels"] != 3:
        stem = model.features[0][0]
        model.features[0][0] = nn.Conv2d(config["in_channels"], stem.out_channels, 3, 2, 1, bias=False)
    return model  # type: ignore[no-any-return]


def rebuild_source(config: Mapping[str, Any]) -> str:
    """Return Python source of ``build_model()``: the code of `build_static`, with the configuration in it."""
    lines = pformat(dict(config), width=110, sort_dicts=False)
    return f'''"""A MobileNetV3 of torchvision."""

from __future__ import annotations

from functools import partial

from torch import nn

CONFIG = {lines}


{inspect.getsource(build_static)}

def build_model():
    """Return the model without trained weights."""
    return build_static(CONFIG)
'''


def with_weights(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of `static_config` with copies of the tensors of its state dict."""
    # On the meta device nothing is initialised only to be overwritten, and no random numbers are drawn.
    with torch.device("meta"):
        model = build_static(config)
    copied = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    model.load_state_dict(copied, assign=True)
    return model
