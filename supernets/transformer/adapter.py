"""The adapter of a family: `supernets.convert` for its models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from search_spaces.errors import did_you_mean
from supernets.base import Supernet
from supernets.errors import SupernetError
from supernets.transformer.family import Family


@dataclass(frozen=True)
class TransformerAdapter:
    """Turns the models of a family into supernets.

    Args:
        family: The family's table.
    """

    family: Family

    @property
    def description(self) -> str:
        """What it supports, for error messages."""
        return f"{self.family.library} {'/'.join(self.family.models)}"

    def supports(self, model: nn.Module) -> bool:
        """Return whether a model is of the family; imports nothing."""
        return self.family.supports(model)

    def convert(
        self, model: nn.Module, *, uniform: bool = False, sequence: int | None = None, **choices: Any
    ) -> Supernet:
        """Return the elastic twin; its largest subnet equals the model.

        Args:
            model: The model; not changed.
            uniform: Whether all layers share one number of heads and one width.
            sequence: Tokens of example inputs, at which costs are stated. Default: 128, or the model's limit.
            **choices: ``depth``, ``heads``, ``cross_heads``, ``ffn``: lists of ints, each with the model's own value.
                With several stacks ``encoder_depth``, … rule one of them. Defaults: InstaTune's ratios of BERT, see
                `supernets.transformer.choices`.

        Raises:
            SupernetError: Lists or a length that do not suit the model.
            UnsupportedModel: The model is not built as the family's table says.
        """
        from supernets.transformer.supernet import TransformerSupernet

        if not isinstance(uniform, bool):
            raise SupernetError(f"uniform must be True or False, got {uniform!r}")
        self._check_names(choices)
        given: Mapping[str, Any] = choices
        return TransformerSupernet(model, self.family, given, uniform=uniform, sequence=sequence)

    def _check_names(self, choices: Mapping[str, Any]) -> None:
        """Refuse options that no model of the family has.

        Raises:
            SupernetError: With the options that there are.
        """
        dims = {f"{s.name}_{d}" if s.name else d for s in self.family.stacks for d in ("depth", *s.dims)}
        plain = {d for s in self.family.stacks for d in ("depth", *s.dims)}
        parameters = inspect.signature(self.convert).parameters.values()
        allowed = sorted(dims | plain | {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY})
        for option in choices:
            if option not in allowed:
                raise SupernetError(
                    f"cannot make {option!r} elastic in this model{did_you_mean(option, allowed)}; "
                    f"allowed: {', '.join(allowed)}"
                )
