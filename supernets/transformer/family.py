"""The vocabulary of the tables that say where a family's models keep what can be elastic."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Dim:
    """Where an elastic dimension of a layer lives. All names are dotted paths within one layer.

    A path that starts with ``?`` may be absent. The size of a unit (a head, a neuron) in each tensor follows from
    its shape.

    Args:
        rows: Layers (linear, ``Conv1D``, norms) whose outputs grow with it; ``"attn.qkv:3"`` holds three parts side by
            side, ``"mlp.fc1:*"`` as many as it has outputs per unit.
        columns: Layers whose inputs grow with it; their gradients give the importance of a unit.
        tensors: Parameters and buffers, ``"path@dim"``, e.g. ``"attn.relative_position_bias_table@1"``.
        attributes: Integers that count it, e.g. ``"attn.num_heads"``.
        shared: Whether all layers of a stack must have the same value, e.g. because they share a position bias.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    tensors: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Stack:
    """A stack of like layers.

    Args:
        layers: Path of the container in the base model.
        heads: The attention heads; None where the stock class cannot run with fewer.
        ffn: The hidden neurons of the feed-forward block.
        cross_heads: The heads of the attention to another stack.
        name: Prefix of the genes; empty for the only stack.
        config: Path of the configuration that sizes the stack, within the model's.
        n_heads: Its key for the number of heads; of timm models, which have no configuration, a path in the layer.
        n_groups: Its key for the number of key-value heads, where heads share them.
        depth_key: The key for the number of layers.
        own_depth_key: The key in the stack's own configuration, where that is a copy of the model's.
        ffn_key: The key for the feed-forward width; empty where it cannot be set.
        head_dim_key: The key for the size of a head; empty where the class derives it from the number of heads, so
            that a configuration cannot hold fewer heads.
        fixed_heads_when: A key that, where true, means a bias shared by all layers, so that heads stay.
        pinned: Number of first layers that every subnet has.
        joint: Whether its keys for heads and width size the other stacks, too.
    """

    layers: str
    heads: Dim | None
    ffn: Dim
    cross_heads: Dim | None = None
    name: str = ""
    config: str = ""
    n_heads: str = "num_attention_heads"
    n_groups: str = ""
    depth_key: str = "num_hidden_layers"
    own_depth_key: str = ""
    ffn_key: str = "intermediate_size"
    head_dim_key: str = ""
    fixed_heads_when: str = ""
    pinned: int = 0
    joint: bool = False

    @property
    def dims(self) -> dict[str, Dim]:
        """The elastic dimensions by name, in the order of genes."""
        named = {"heads": self.heads, "cross_heads": self.cross_heads, "ffn": self.ffn}
        return {name: dim for name, dim in named.items() if dim is not None}

    @property
    def head_keys(self) -> list[str]:
        """The keys of a configuration that size the heads, where it can hold fewer of them."""
        return [k for k in (self.n_heads, self.n_groups, self.head_dim_key) if k] if self.head_dim_key else []

    def holds(self, dim: str) -> bool:
        """Return whether a configuration can hold another value of a dimension, the same in all layers."""
        return dim == "depth" or bool(self.ffn_key if dim == "ffn" else self.head_dim_key)

    @property
    def prefix(self) -> str:
        """What the names of the stack's genes start with."""
        return f"{self.name}." if self.name else ""


@dataclass(frozen=True)
class Family:
    """One kind of model that `supernets.convert` turns into a supernet.

    Args:
        name: For errors and saved files.
        library: ``"transformers"`` or ``"timm"``.
        models: ``config.model_type`` values (transformers) or class names (timm) of the family.
        stacks: Its stacks; those that a model lacks (an encoder alone) are skipped.
        inputs: What a forward pass takes, of ``"text"``, ``"image"``, ``"decoder_text"``.
        needs: Path in a layer -> class name that must be there, where other variants cannot be elastic.
    """

    name: str
    library: str
    models: tuple[str, ...]
    stacks: tuple[Stack, ...]
    inputs: tuple[str, ...]
    needs: dict[str, str] = field(default_factory=dict)

    def supports(self, model: nn.Module) -> bool:
        """Return whether a model is of the family; imports nothing."""
        module = type(model).__module__
        if self.library == "timm":
            return module.startswith("timm.models.") and type(model).__name__ in self.models
        config = getattr(model, "config", None)
        return module.startswith("transformers.models.") and getattr(config, "model_type", None) in self.models
