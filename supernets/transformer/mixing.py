"""Stock layers whose sliced weights are mixtures."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from torch import Tensor, nn

from supernets.elastic import MixableModule
from supernets.mixture import RoutedBlock, RoutedLayer
from supernets.transformer.slices import Slice, SlicedModule
from supernets.transformer.wiring import WiredStack


class MixableSlicedModule(SlicedModule, MixableModule):
    """A sliced fully connected layer (``Linear`` or ``Conv1D``) whose ``weight`` and ``bias`` read as mixtures.

    Made by `make_mixable`. The parameters keep their names and hold the first expert.
    """

    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Return the active part of a tensor shaped like a parameter, as the stock class computes with it."""
        piece = self._slices.get(name)
        return tensor if piece is None else piece.take(tensor)

    def cut_view(self, name: str, tensor: Tensor) -> Tensor:
        """Return the active part as a view; with chunks of one more dimension."""
        piece = self._slices.get(name)
        return tensor if piece is None else piece.view(tensor)

    def cut_rows(self, tensor: Tensor) -> Tensor:
        """Return the active outputs of ``[outputs, …]``."""
        piece = self._row_slice()
        return tensor if piece is None else piece.take(tensor)

    def cut_rows_view(self, tensor: Tensor) -> Tensor:
        """Return the active outputs as a view; with chunks of one more dimension."""
        piece = self._row_slice()
        return tensor if piece is None else piece.view(tensor)

    def active_shape(self) -> tuple[int, ...]:
        """Return the active units of each sliced parameter."""
        return tuple(piece.extent.active for piece in self._slices.values())

    def active_state(self) -> dict[str, Tensor]:
        """Return mixtures and other active tensors, in the shape that the stock class has them."""
        return {**super().active_state(), **{name: self.active(name) for name in self.mixed_parameters()}}

    def taken(self) -> list[tuple[Tensor, Tensor]]:
        """Return each full tensor and its active value; of the first experts the mixture."""
        mixed = self.mixed_parameters()
        routed = self._routed()
        if routed is None:
            return super().taken()
        rest = [(t, piece.take(t)) for name, (t, piece) in self.sliced().items() if name not in mixed]
        return rest + [(parameter, routed.value(name)) for name, parameter in mixed.items()]

    def permuted(self) -> list[tuple[Tensor, Slice]]:
        """Return the sliced tensors of all experts, and the rows of the layer's own router."""
        routed, own = self._routed(), super().permuted()
        if routed is None:
            return own
        for name in self.mixed_parameters():
            piece = self._slices.get(name)
            if piece is not None:
                own += [(t, piece) for t in routed.tensors(name)[1:]]
        rows, piece = routed.rows(), self._row_slice()
        return own if rows is None or piece is None else [*own, *((t, piece) for t in rows)]

    def experts(self, name: str) -> list[Tensor]:
        """Return a parameter of all experts."""
        routed = self._routed()
        return super().experts(name) if routed is None else list(routed.tensors(name))

    def become_stock(self) -> None:
        """Turn into an instance of the stock class; the mixture is left behind."""
        self.__dict__.pop("_source", None)
        super().become_stock()

    def _routed(self) -> RoutedLayer | None:
        return cast("RoutedLayer | None", self._source)

    def _row_slice(self) -> Slice | None:
        """Return the slice of the outputs, as of a tensor that has them first."""
        piece = self._slices["weight"]
        if piece.dim != self.output_dim:
            return None
        outputs = cast("Tensor", self._parameters["weight"]).shape[piece.dim]
        return Slice(piece.extent, 0, outputs, piece.chunks)


def _read(name: str) -> property:
    def read(self: MixableSlicedModule) -> Tensor | None:
        return None if self._parameters.get(name) is None else self.active(name)

    return property(read)


def _stock_forward(self: Any, *args: Any) -> Any:
    return self.stock_class.forward(self, *args)


@cache
def _mixable_class(sliced: Any) -> Any:
    members = {
        "__module__": __name__,
        "weight": _read("weight"),
        "bias": _read("bias"),
        "forward": _stock_forward,  # a mixture is one tensor already: nothing is gained by chunks
        "output_dim": 1 if sliced.stock_class.__name__ == "Conv1D" else 0,
    }
    return ABCMeta(f"Mixable{sliced.__name__}", (MixableSlicedModule, sliced), members)


def make_mixable(module: SlicedModule) -> MixableSlicedModule:
    """Let the weights of a sliced layer be mixtures, in place."""
    made: Any = module
    made.__class__ = _mixable_class(type(module))
    return cast("MixableSlicedModule", made)


def routed_blocks(stacks: Sequence[WiredStack]) -> list[RoutedBlock]:
    """Return the feed-forward layers of each layer of the stacks, made mixable."""
    blocks = []
    for stack in stacks:
        dim = stack.table.dims["ffn"]
        paths = [p.removeprefix("?").partition(":")[0] for p in (*dim.rows, *dim.columns)]
        for index, layer in enumerate(stack.layers):
            name = f"{stack.table.layers}.{index}"
            inner = dict(layer.named_modules())
            found = {f"{name}.{p}": inner[p] for p in paths if p in inner and _is_linear(inner[p])}
            blocks.append(RoutedBlock(name, {n: make_mixable(cast("SlicedModule", m)) for n, m in found.items()}))
    return blocks


def _is_linear(module: nn.Module) -> bool:
    if not isinstance(module, SlicedModule):
        return False
    return issubclass(module.stock_class, nn.Linear) or module.stock_class.__name__ == "Conv1D"
