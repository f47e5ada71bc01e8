"""Stock layers that compute with a slice of their weights."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic import ElasticModule

LORA_LEFT, LORA_RIGHT = "lora_left", "lora_right"
"""Names of an adapter's factors, see `supernets.transformer.lora`."""


class Extent:
    """How many units (heads, groups of heads, neurons) of a dimension are used; shared by all that depends on it.

    Args:
        full: All units.
    """

    __slots__ = ("active", "full")

    def __init__(self, full: int) -> None:
        self.full = full
        self.active = full

    def __repr__(self) -> str:
        return f"Extent({self.active}/{self.full})"


class Slice:
    """The part of one dimension of a tensor that an extent leaves.

    Args:
        extent: The extent.
        dim: The dimension.
        size: Its full size.
        chunks: Number of equal parts laid side by side along it (3 for query, key and value in one matrix), of each
            of which a prefix is used.
    """

    __slots__ = ("chunks", "dim", "extent", "unit")

    def __init__(self, extent: Extent, dim: int, size: int, chunks: int = 1) -> None:
        self.extent = extent
        self.dim = dim
        self.chunks = chunks
        self.unit = size // (extent.full * chunks)

    @property
    def full(self) -> bool:
        """Whether nothing is cut off."""
        return self.extent.active == self.extent.full

    def view(self, tensor: Tensor) -> Tensor:
        """Return the used part, a view; with chunks, of one more dimension: they come before ``dim``."""
        length = self.extent.active * self.unit
        if self.chunks == 1:
            return tensor.narrow(self.dim, 0, length)
        return torch.unflatten(tensor, self.dim, (self.chunks, -1)).narrow(self.dim + 1, 0, length)

    def take(self, tensor: Tensor) -> Tensor:
        """Return the used part in the shape that the layer computes with: a view unless there are chunks."""
        if self.full:
            return tensor
        return self.view(tensor) if self.chunks == 1 else self.view(tensor).flatten(self.dim, self.dim + 1)

    def parts(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return the used part of each chunk, views."""
        return self.view(tensor).unbind(self.dim)

    def order(self, units: Tensor) -> Tensor:
        """Return the indices along ``dim`` that put units in an order, int64 ``[size]``."""
        steps = torch.arange(self.unit, device=units.device)
        one = (units[:, None] * self.unit + steps).flatten()
        return torch.cat([one + c * self.extent.full * self.unit for c in range(self.chunks)])


class SlicedModule(ElasticModule):
    """A stock layer whose parameters, and attributes that count them, read as their active part.

    Made by `make_sliced`, which gives an instance of a stock class a subclass with properties in place of those
    names. The forward pass stays the stock class's own. Parameters keep their names and full shape.
    """

    _slices: dict[str, Slice]
    _scaled: dict[str, tuple[Extent, int]]
    stock_class: type[nn.Module]

    def active_state(self) -> dict[str, Tensor]:
        """Return the active tensors, in the shape that the stock class has them."""
        return {name: s.take(cast("Tensor", self._tensor(name))) for name, s in self._slices.items()}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return views of the active parts of the parameters, those of inner layers included."""
        slices = self._slices
        return {n: slices[n].view(p) if n in slices else p for n, p in self.named_parameters()}

    def sliced(self) -> dict[str, tuple[Tensor, Slice]]:
        """Return name -> full tensor and its slice."""
        return {name: (cast("Tensor", self._tensor(name)), s) for name, s in self._slices.items()}

    def taken(self) -> list[tuple[Tensor, Tensor]]:
        """Return each full tensor and its active value, in the shape that the stock class has it."""
        return [(tensor, piece.take(tensor)) for tensor, piece in self.sliced().values()]

    def permuted(self) -> list[tuple[Tensor, Slice]]:
        """Return all tensors that change places with the units, and their slices."""
        return list(self.sliced().values())

    def experts(self, name: str) -> list[Tensor]:
        """Return the tensors that are mixed to what a parameter reads as: itself, where nothing is."""
        return [cast("Tensor", self._tensor(name))]

    def _tensor(self, name: str) -> Tensor | None:
        return self._parameters[name] if name in self._parameters else self._buffers[name]

    def whole_weight(self) -> Tensor:
        """Return the weight in full, an adapter's product included."""
        weight = cast("Tensor", self._parameters["weight"])
        if LORA_LEFT not in self._parameters:
            return weight
        left, right = (cast("Tensor", self._parameters[name]) for name in (LORA_LEFT, LORA_RIGHT))
        scale: float = self.__dict__["lora_scale"]
        return weight + scale * (left @ right)

    @torch.no_grad()
    def merge_adapter(self) -> None:
        """Add an adapter's product to the weight, in place, and remove the adapter, if there is one."""
        if LORA_LEFT not in self._parameters:
            return
        cast("Tensor", self._parameters["weight"]).copy_(self.whole_weight())
        for name in (LORA_LEFT, LORA_RIGHT):
            del self._parameters[name]
            self._slices.pop(name, None)
        del self.__dict__["lora_scale"]
        make_sliced(self, {}, {})

    def become_stock(self) -> None:
        """Turn into an instance of the stock class, with the active values of the attributes.

        For a copy whose tensors have been cut already.
        """
        self.merge_adapter()
        values = {name: _count(name, *scaled) for name, scaled in self._scaled.items()}
        del self._slices, self._scaled
        self.__class__ = self.stock_class  # type: ignore[assignment]
        self.__dict__.update(values)


def _read_slice(name: str) -> property:
    def read(self: SlicedModule) -> Tensor:
        part = self._slices[name].take(cast("Tensor", self._tensor(name)))
        if name == "weight" and LORA_LEFT in self._parameters:
            # One factor reads as a slice: the product is that of the slice of the weight.
            part = part + self.__dict__["lora_scale"] * (getattr(self, LORA_LEFT) @ getattr(self, LORA_RIGHT))
        return part

    return property(read)


def _count(name: str, extent: Extent, unit: int) -> Any:
    """Return the active value of an attribute; of a norm's shape a tuple."""
    value = extent.active * unit
    return (value,) if name == "normalized_shape" else value


def _read_count(name: str) -> property:
    def read(self: SlicedModule) -> Any:
        return _count(name, *self._scaled[name])

    return property(read)


def _fused_forward(transposed: bool) -> Any:
    """Return a forward pass of a layer with chunks that multiplies chunk by chunk: no weight is copied."""

    def forward(self: Any, x: Tensor) -> Tensor:
        piece: Slice = self._slices["weight"]
        if piece.full:
            return cast("Tensor", self.stock_class.forward(self, x))
        weights = piece.parts(self.whole_weight())
        biases = (
            (None,) * len(weights)
            if "bias" not in self._slices
            else self._slices["bias"].parts(self._parameters["bias"])
        )
        pairs = zip(weights, biases, strict=True)
        return torch.cat([functional.linear(x, w.T if transposed else w, b) for w, b in pairs], -1)

    return forward


@cache
def _sliced_class(cls: Any, slices: tuple[str, ...], scaled: tuple[str, ...], fused: bool) -> Any:
    members: dict[str, Any] = {"stock_class": cls, "__module__": __name__}
    members.update({name: _read_slice(name) for name in slices})
    members.update({name: _read_count(name) for name in scaled})
    if fused and "weight" in slices:
        members["forward"] = _fused_forward(cls.__name__ == "Conv1D")
    return ABCMeta(f"Sliced{cls.__name__}", (SlicedModule, cls), members)


def make_sliced(module: nn.Module, slices: Mapping[str, Slice], scaled: Mapping[str, tuple[Extent, int]]) -> None:
    """Make a stock layer read some of its tensors and attributes by slice, in place; may be called again for others.

    Args:
        module: The layer.
        slices: Name of a parameter or buffer -> its slice.
        scaled: Name of an integer attribute -> extent and how much one unit counts.
    """
    made: Any = module
    cls: Any = type(module)
    if isinstance(module, SlicedModule):
        cls = module.stock_class
        slices, scaled = {**module._slices, **slices}, {**module._scaled, **scaled}
    fused = any(s.chunks > 1 for s in slices.values())
    made.__class__ = _sliced_class(cls, tuple(sorted(slices)), tuple(sorted(scaled)), fused)
    made.__dict__.update(_slices=dict(slices), _scaled=dict(scaled))
