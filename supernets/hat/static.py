"""Subnets as plain torch networks."""

from __future__ import annotations

import inspect
import operator
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
    """Return the network as a ``torch.fx.GraphModule`` of torch's own layers, with the same state dict.

    Its forward pass is recorded once, for both modes.
    """
    graph = _Tracer().trace(model.train())
    for node in list(graph.nodes):
        if node.kwargs.get("dropout_p"):
            _follow_the_mode(graph, node)
    return fx.GraphModule(model, graph, "TranslationTransformer")


def _follow_the_mode(graph: fx.Graph, node: fx.Node) -> None:
    """Let a recorded attention drop out weights in train mode alone: its probability was recorded as a number."""
    *_, (name, _) = node.meta["nn_module_stack"].values()
    with graph.inserting_before(node):
        mode = graph.call_function(getattr, (graph.get_attr(f"{name}.dropout"), "training"))
        now = graph.call_function(operator.mul, (mode, node.kwargs["dropout_p"]))
    node.kwargs = {**node.kwargs, "dropout_p": now}


def rebuild_source(config: Mapping[str, Any]) -> str:
    """Return Python source of ``build_model()``: the code of the network, with the configuration in it."""
    lines = pformat(dict(config), width=110, sort_dicts=False)
    return f'''{inspect.getsource(network)}

CONFIG = {lines}


def build_model():
    """Return the model without trained weights."""
    return TranslationTransformer(CONFIG)
'''
