"""Conversion to ONNX: tensors in, tuple of tensors out, loadable without us and without transformers."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from predictors.backends.base import Inputs, call, eval_copy, map_inputs, tensors_of
from predictors.backends.dimensions import first_dimensions
from predictors.backends.onnxruntime import onnx_missing
from predictors.errors import BackendUnavailable, MeasurementError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
# Protocol buffers end at 2 GiB; the rest is for the graph around the weights.
MAX_EMBEDDED_BYTES = 1_800_000_000

_CHATTY = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "onnxscript", "onnx_ir")


class TupleOutput(nn.Module):
    """Calls a module with tensors in a fixed order and returns its outputs as a flat tuple of tensors.

    Args:
        module: Any module whose outputs are tensors, or tuples, lists or mappings of them.
        keywords: Names under which the tensors are passed; ``None`` passes them by position.
    """

    def __init__(self, module: nn.Module, keywords: list[str] | None) -> None:
        super().__init__()
        self.module = module
        self.keywords = keywords

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the module once."""
        given = dict(zip(self.keywords, tensors, strict=True)) if self.keywords is not None else tensors
        return tuple(tensor for _, tensor in plain_outputs(self.module, given))


def export_onnx(
    module: nn.Module,
    inputs: Inputs,
    path: Path | str | None = None,
    *,
    dynamic_batch: bool = False,
    dynamic_sequence: bool = False,
    opset: int = OPSET,
) -> ModelProto:
    """Convert a module to ONNX in eval mode; the module is left as it was.

    Args:
        module: Any module that torch.export can trace.
        inputs: A tuple (positional) or mapping (by keyword) of tensors; the first dimension is the batch. Inputs
            of the graph are named after the mapping's keys or the arguments of ``forward``, outputs after the
            keys of the module's outputs, or ``output``, or ``output_0`` and so on.
        path: Where to write the model; ``None`` writes nothing. Weights beyond 1.8 GB go to a file beside it.
        dynamic_batch: Leave the first dimension of every input open, under the name ``batch``; that of texts beside
            images as ``texts``, for there may be more or fewer of them.
        dynamic_sequence: Leave the second dimension of every two-dimensional input open, as ``sequence``.
        opset: Version of the operator set.

    Returns:
        The model, with weights inside.

    Raises:
        BackendUnavailable: onnx, onnxruntime or onnxscript is missing.
        MeasurementError: The module cannot be converted.
    """
    if missing := onnx_missing():
        raise BackendUnavailable(missing)
    twin = eval_copy(module)
    device = next((t.device for t in twin.parameters()), torch.device("cpu"))
    placed = map_inputs(inputs, lambda t: _widened(t.detach().to(device), dynamic_batch, dynamic_sequence))
    names = _input_names(module, placed)
    keywords = list(placed) if isinstance(placed, Mapping) else None
    try:
        with torch.no_grad(), quiet():
            output_names = [name for name, _ in plain_outputs(twin, placed)]
            program = torch.onnx.export(
                TupleOutput(twin, keywords).eval(),
                tuple(tensors_of(placed)),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=output_names,
                opset_version=opset,
                dynamic_shapes=_dynamic_shapes(placed, dynamic_batch, dynamic_sequence),
            )
    except MeasurementError:
        raise
    except Exception as e:
        reason = str(e).strip().splitlines()[:1]
        raise MeasurementError(
            f"{type(module).__name__} cannot be converted to ONNX ({type(e).__name__}: {''.join(reason)}); "
            "shapes must not depend on values, and every operation must have an ONNX form"
        ) from e
    assert program is not None  # noqa: S101 - torch returns None only for a file and the old exporter
    if path is not None:
        _write(program, Path(path))
    model: ModelProto = program.model_proto
    return model


def plain_outputs(module: nn.Module, inputs: Inputs) -> list[tuple[str, Tensor]]:
    """Run a module and return its outputs as named tensors: the logits alone where there are some, and no caches.

    Decoders would return their keys and values, in objects that are no tensors.

    Raises:
        MeasurementError: Something in the outputs is no tensor, tuple, list or mapping.
    """
    if isinstance(inputs, Mapping) and "use_cache" in inspect.signature(module.forward).parameters:
        outputs = module(**inputs, use_cache=False)
    else:
        outputs = call(module, inputs)
    if isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor):
        return [("logits", outputs["logits"])]
    return named_outputs(outputs)


def named_outputs(outputs: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """Return the tensors of nested outputs with names, in order; ``None`` is left out.

    Raises:
        MeasurementError: Something in them is no tensor, tuple, list or mapping.
    """
    if outputs is None:
        return []
    if isinstance(outputs, Tensor):
        return [(prefix or "output", outputs)]
    if isinstance(outputs, Mapping):
        items = [(f"{prefix}_{key}" if prefix else str(key), value) for key, value in outputs.items()]
    elif isinstance(outputs, (tuple, list)):
        items = [(f"{prefix or 'output'}_{i}", value) for i, value in enumerate(outputs)]
    else:
        raise MeasurementError(
            f"the module returns a {type(outputs).__name__}; tensors, and tuples, lists or mappings of them can be used"
        )
    return [pair for name, value in items for pair in named_outputs(value, name)]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress lines, warnings and log records from the reader within a ``with`` block."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _widened(t: Tensor, dynamic_batch: bool, dynamic_sequence: bool) -> Tensor:
    """Repeat an input along open dimensions of size 1, which torch.export would take as fixed."""
    if dynamic_batch and t.dim() > 0 and t.shape[0] == 1:
        t = torch.cat([t, t])
    if dynamic_sequence and t.dim() == 2 and t.shape[1] == 1:
        t = torch.cat([t, t], dim=1)
    return t.contiguous()


def _input_names(module: nn.Module, inputs: Inputs) -> list[str]:
    if isinstance(inputs, Mapping):
        return list(inputs)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in kinds]
    return [names[i] if i < len(names) else f"input_{i}" for i in range(len(inputs))]


def _dynamic_shapes(inputs: Inputs, batch: bool, sequence: bool) -> Any:
    """Return the open dimensions in the nesting of `TupleOutput.forward`, or ``None`` where there are none."""
    if not batch and not sequence:
        return None
    names = list(inputs) if isinstance(inputs, Mapping) else [""] * len(inputs)

    def spec(name: str, t: Tensor, first: str) -> dict[int, Any]:
        dims: dict[int, Any] = {0: first} if batch and t.dim() > 0 else {}
        length = "decoder_sequence" if name.startswith("decoder") else "sequence"
        return {**dims, 1: length} if sequence and t.dim() == 2 else dims

    # Names, not ranges: positions limit the length, and torch infers by how much.
    tensors = list(tensors_of(inputs))
    return (tuple(map(spec, names, tensors, first_dimensions(tensors))),)


def _write(program: Any, path: Path) -> None:
    """Write a model beside its final name first, so that a half-written file never bears that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = program.model_proto.ByteSize()
    if size > MAX_EMBEDDED_BYTES or size < 0:
        # External weights are found by the name of the model, so this file cannot be renamed afterwards.
        program.save(str(path), external_data=True)
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(program.model_proto.SerializeToString())
    partial.replace(path)
