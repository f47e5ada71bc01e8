"""The adapter of expert configurations: `supernets.convert` for Mixture-of-Experts models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from supernets.base import Inputs, Supernet
from supernets.errors import SupernetError, UnsupportedModel
from supernets.experts.families import FAMILIES, family_of


class ExpertsAdapter:
    """Turns Mixture-of-Experts language models of transformers into supernets of expert configurations."""

    name = "experts"
    space = "experts"
    calibrated = True
    trained = False
    in_place = True

    @property
    def description(self) -> str:
        """What it supports, for error messages."""
        return f"transformers {'/'.join(FAMILIES)} (experts)"

    def supports(self, model: nn.Module) -> bool:
        """Return whether a model is of a known kind; imports nothing."""
        return family_of(model) is not None

    def why_not(self, model: nn.Module) -> str:
        """Return why a model that is not supported has no such space, and which spaces fit it."""
        return _dense(model)

    def convert(
        self,
        model: nn.Module,
        *,
        calibration: Iterable[Inputs] | Mapping[str, Iterable[Inputs]] | None = None,
        uniform: bool = False,
        sequence: int | None = None,
        protect: bool = True,
        bank_mb: float = 64.0,
        copy: bool = True,
        **choices: Any,
    ) -> Supernet:
        """Return the switchable twin; its largest subnet equals the model.

        Bit for bit with one width. With several the neurons of each layer are sorted by importance, so that a sum is
        taken in another order.

        Args:
            model: The model; not changed, unless ``copy`` is False.
            calibration: Batches to gather statistics from, once, or batches by domain; not those that a search is
                judged on. Without them the criteria and operators that need none are offered.
            uniform: Whether all layers agree, and only what stock classes (and vLLM) can load is offered.
            sequence: Tokens of example inputs, at which costs are stated. Default: 128, or the model's limit.
            protect: Whether super experts are kept and never merged.
            bank_mb: Memory for merged experts of configurations that are not active, in 1e6 bytes.
            copy: Whether the supernet has a copy of the model. If not, the model itself becomes switchable and is of no
                other use: for models of which memory does not hold two. Where the conversion fails it is a stock model
                again.
            **choices: ``keep``, ``operators``, ``k``, ``top_p``, ``width``, ``criteria``, ``shared``, ``blocks``:
                lists, each with the model's own value.

        Raises:
            SupernetError: Lists or a length that do not suit the model, calibration of too few tokens, or of something
                else than batches.
            UnsupportedModel: No Mixture-of-Experts model, or of an unknown layout.
        """
        from supernets.experts.calibration import check_batches
        from supernets.experts.supernet import ExpertSupernet

        if not self.supports(model):
            raise UnsupportedModel(self.why_not(model))
        for option, value in (("uniform", uniform), ("protect", protect), ("copy", copy)):
            if not isinstance(value, bool):
                raise SupernetError(f"{option} must be True or False, got {value!r}")
        if isinstance(bank_mb, bool) or not isinstance(bank_mb, int | float) or not bank_mb >= 0:
            raise SupernetError(f"bank_mb must be a size in 1e6 bytes, 0 or more, got {bank_mb!r}")
        if calibration is not None:
            check_batches(calibration)
        net = ExpertSupernet(
            model,
            choices,
            uniform=uniform,
            sequence=sequence,
            calibrated=calibration is not None,
            protect=protect,
            bank_mb=bank_mb,
            copy=copy,
        )
        try:
            if calibration is not None:
                net.calibrate(calibration)
                net.keep_super_experts()
            if len(net.choices.width) > 1:  # a narrower expert is a prefix of its neurons
                net.sort_by_importance()
        except BaseException:  # an interruption, too: the model is the caller's
            for block in net.blocks:
                block.release()
            raise
        return net


def _dense(model: nn.Module) -> str:
    """Return why a model has no expert configurations, and which spaces fit it."""
    from supernets.transformer.catalogue import transformer_families

    fitting = [f.name for f in transformer_families().values() if f.supports(model)]
    fits = (
        f"its layers, heads and neurons can be elastic instead ({fitting[0]}): --space auto, or convert(model)"
        if fitting
        else "no other space fits it either"
    )
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    return (
        f"a {type(model).__name__} ({kind}) has no experts that space 'experts' knows; it is for causal language "
        f"models of {', '.join(FAMILIES)}. {fits[0].upper()}{fits[1:]}"
    )
