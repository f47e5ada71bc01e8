"""What a module costs by counting alone: parameters, multiply-accumulates and size."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from predictors.backends.base import Inputs, call, eval_copy, map_inputs
from predictors.errors import MeasurementError
from predictors.measurement.inputs import batch_size


@dataclass(frozen=True)
class Counts:
    """Exact costs of a module.

    Attributes:
        params_m: Parameters in millions; shared ones count once, buffers not at all.
        macs_m: Multiply-accumulates of one input in millions: convolutions, matrix products and attention.
        size_mb: Parameters and buffers in their dtypes, in 1e6 bytes; shared ones count once.
    """

    params_m: float
    macs_m: float
    size_mb: float

    def to_json(self) -> dict[str, float]:
        """Return all fields as JSON values."""
        return asdict(self)


def count(module: nn.Module, inputs: Inputs) -> Counts:
    """Count parameters, multiply-accumulates and size of any module with one eager forward.

    In eval mode; the module is left as it was. Additions of biases, normalisation, activation functions and
    pooling are not counted, as is usual.

    Args:
        module: Any module.
        inputs: A tuple (positional) or mapping (by keyword) of tensors on the module's device; the first
            dimension of the first is the batch, by which multiply-accumulates are divided.

    Raises:
        MeasurementError: The module raises.
    """
    given = map_inputs(inputs, lambda t: t.detach())
    parameters, buffers = list(module.parameters()), list(module.buffers())
    twin = eval_copy(module)
    counter = FlopCounterMode(display=False, custom_mapping=_more_products())
    try:
        # Not inference mode: there, composite operations would not be taken apart into those that are counted.
        with torch.no_grad(), _no_fused_kernels(), counter:
            call(twin, given)
    except Exception as e:
        raise MeasurementError(f"{type(module).__name__} cannot be counted: {type(e).__name__}: {e}") from e
    return Counts(
        params_m=sum(p.numel() for p in parameters) / 1e6,
        macs_m=counter.get_total_flops() / 2 / batch_size(given) / 1e6,
        size_mb=sum(t.numel() * t.element_size() for t in [*parameters, *buffers]) / 1e6,
    )


@contextmanager
def _no_fused_kernels() -> Iterator[None]:
    """Run attention blocks and recurrent layers step by step: whole in one kernel they escape the counter."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Switching oneDNN warns about a TF32 mode of other hardware, on the way in and on the way out.
        with (
            warnings.catch_warnings(action="ignore"),
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=False),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _more_products() -> dict[Any, Callable[..., int]]:
    """Return formulas for products that torch's counter does not know, in floating-point operations."""
    aten = torch.ops.aten
    formulas: dict[Any, Callable[..., int]] = {
        aten.mv: lambda a, x, *_, **__: 2 * prod(a),
        aten.addmv: lambda y, a, x, *_, **__: 2 * prod(a),
        aten.dot: lambda a, b, *_, **__: 2 * prod(a),
    }
    if hasattr(aten, "_grouped_mm"):
        # One of many matrices per row (expert layers): each element of a meets one row of its matrix.
        formulas[aten._grouped_mm] = lambda a, b, *_, **__: 2 * prod(a) * b[-1]
    return formulas
