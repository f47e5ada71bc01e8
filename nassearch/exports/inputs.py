"""The inputs of an export in words: their names, open dimensions, and the lines of Python that describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from predictors.backends.dimensions import first_dimensions, is_text

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs


def tensors(example: Inputs) -> list[Tensor]:
    """Return the tensors of inputs, in order."""
    return list(example.values() if isinstance(example, Mapping) else example)


def text_length(example: Inputs) -> int:
    """Return the tokens of texts among inputs; 0 without texts."""
    return next((int(t.shape[1]) for t in tensors(example) if is_text(t)), 0)


def other_counts(example: Inputs, larger: Inputs) -> Inputs | None:
    """Return inputs with more images than texts; None where a model does not take both.

    Args:
        example: Inputs, of which the texts are taken.
        larger: More of the same, of which the rest is taken.
    """
    if len(set(first_dimensions(tensors(example)))) < 2:
        return None
    if isinstance(example, Mapping) and isinstance(larger, Mapping):
        return {name: t if is_text(t) else larger[name] for name, t in example.items()}
    return tuple(a if is_text(a) else b for a, b in zip(tensors(example), tensors(larger), strict=True))


def input_shapes(example: Inputs) -> dict[str, dict[str, Any]]:
    """Return name -> shape (open dimensions by name, such as "batch") and dtype of each input."""
    names = list(example) if isinstance(example, Mapping) else [f"input_{i}" for i in range(len(example))]
    return _described(names, tensors(example))


def variables(example: Inputs) -> list[str]:
    """Return what the inputs are called in the code of a card."""
    if isinstance(example, Mapping):
        return list(example)
    return ["images"] if len(example) == 1 and example[0].dim() == 4 else [f"input_{i}" for i in range(len(example))]


def comments(example: Inputs) -> str:
    """Return a line of Python comment for each input: name, dtype and shape."""
    facts = _described(variables(example), tensors(example)).items()
    return "\n".join(f"# {n}: {f['dtype']} [{', '.join(map(str, f['shape']))}]" for n, f in facts)


def _described(names: list[str], given: list[Tensor]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "shape": [first, *(["sequence"] if is_text(t) else t.shape[1:])],
            "dtype": str(t.dtype).removeprefix("torch."),
        }
        for name, t, first in zip(names, given, first_dimensions(given), strict=True)
    }
