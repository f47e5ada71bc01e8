"""Subnets as plain torch networks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pprint import pformat
from typing import Any

import torch
from torch import Tensor, fx, nn

from supernets.hat import network
from supernets.hat.network import TranslationTransformer


class _Tracer(fx.Tracer):
    """Records a forward pass; tables of constants stay attributes of the module."""

    proxy_buffer_attributes = True


def with_weights(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> TranslationTransformer:
    """Return the network of a configuration with copies of the tensors of its state dict."""
    # On the meta device nothing is initialised only to be overwritten, and no random numbers are drawn.
    with torch.device("meta"):
        model = TranslationTransformer(config)
    copied = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    model.load_state_dict(copied, assign=True)
    return model


def traced(model: TranslationTransformer) -> nn.Module:
    """Return the network as a ``torch.fx.GraphModule`` of torch's own layers, with the same state dict."""
    return fx.GraphModule(model, _Tracer().trace(model), "TranslationTransformer")


def rebuild_source(config: Mapping[str, Any]) -> str:
    """Return Python source of ``build_model()``: the code of the network, with the configuration in it."""
    lines = pformat(dict(config), width=110, sort_dicts=False)
    return f'''{inspect.getsource(network)}

CONFIG = {lines}


def build_model():
    """Return the model without trained weights."""
    return TranslationTransformer(CONFIG)
'''
