"""Checks that inputs belong to a setting, so that no figure bears the wrong name."""

from __future__ import annotations

from predictors.backends.base import Inputs, map_inputs, tensors_of
from predictors.errors import MeasurementError
from predictors.measurement.setting import LatencySetting


def batch_size(inputs: Inputs) -> int:
    """Return the first dimension of the first input, 1 where it has none."""
    first = tensors_of(inputs)[0]
    return int(first.shape[0]) if first.dim() > 0 else 1


def check_inputs(inputs: Inputs, setting: LatencySetting) -> None:
    """Compare the shapes of inputs with the batch, resolution and sequence that a setting names.

    Raises:
        MeasurementError: They differ, or the inputs are not tensors; the message lists the shapes.
    """
    tensors = tensors_of(map_inputs(inputs, lambda t: t))
    shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
    faults: list[str] = []
    if (batch := batch_size(inputs)) != setting.batch:
        faults.append(f"the batch is {batch}, the setting says batch={setting.batch}")
    images = [t for t in tensors if t.dim() == 4]
    size = setting.resolution
    if size is not None and images and all(tuple(t.shape[-2:]) != (size, size) for t in images):
        faults.append(f"no image is {size} x {size}, the setting says resolution={size}")
    sequences = [t for t in tensors if t.dim() in (2, 3)]
    length = setting.sequence
    if length is not None and sequences and all(t.shape[1] != length for t in sequences):
        faults.append(f"no sequence has {length} tokens, the setting says sequence={length}")
    if faults:
        raise MeasurementError(f"inputs of shapes {shapes} do not belong to {str(setting)!r}: {'; '.join(faults)}")
