"""What is timed of a language model: a whole text at once, or one token after a text; by which kernel for experts."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import Tensor, nn

PHASES = ("prefill", "decode")


class DecodeStep(nn.Module):
    """One step of generation: the last token of the inputs, after the keys and values of all before it are cached.

    The cache is filled by the first pass with some inputs and is as long at the end of each step as at its start, so
    that steps can be timed one after the other.

    Args:
        model: A causal language model of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        # Releases of transformers call the cache differently.
        self._name = "cache" if "cache" in signature(self.model.forward).parameters else "past_key_values"
        self._key: tuple[Any, ...] | None = None
        self._cache: Any = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the logits of the last token, ``[n, 1, vocabulary]``.

        Args:
            input_ids: int64 ``[n, tokens]``, two tokens at least.
            attention_mask: Of all tokens.
        """
        key = (input_ids.data_ptr(), input_ids.shape, input_ids.device, next(self.model.parameters()).dtype)
        if key != self._key:
            self._fill(input_ids, attention_mask)
            self._key = key
        output = self.model(
            input_ids=input_ids[:, -1:], attention_mask=attention_mask, use_cache=True, **{self._name: self._cache}
        )
        self._cache.crop(-1)
        logits: Tensor = output.logits
        return logits

    def _fill(self, input_ids: Tensor, attention_mask: Tensor | None) -> None:
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self.model.config)
        for layer in self._cache.layers:
            if hasattr(layer, "activate_past_recording"):  # or a sliding window could not forget a token
                layer.activate_past_recording()
        before = None if attention_mask is None else attention_mask[:, :-1]
        self.model(input_ids=input_ids[:, :-1], attention_mask=before, use_cache=True, **{self._name: self._cache})


def timing_fault(options: Mapping[str, str], tokens: int) -> str | None:
    """Return what is wrong with options of a measurement; None if all is well.

    Args:
        options: ``phase`` and ``experts``, and the ``backend``.
        tokens: Of the inputs.
    """
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    phase, experts, backend = (options.get(n) for n in ("phase", "experts", "backend"))
    kernels = ("eager", *ALL_EXPERTS_FUNCTIONS)
    if phase is not None and phase not in PHASES:
        return f"phase={phase} is not known; allowed: {', '.join(PHASES)}"
    if experts is not None and experts not in kernels:
        return f"experts={experts} is no implementation of transformers; allowed: {', '.join(kernels)}"
    if phase == "decode" and backend != "eager":
        return f"phase=decode is measured by backend eager, not {backend}: its cache is no input of the network"
    if phase == "decode" and tokens < 2:
        return f"phase=decode needs texts of two tokens at least; they have {tokens}: give sequence="
    return None


def timed(model: Any, options: Mapping[str, str]) -> nn.Module:
    """Return the module to time; the model's implementation of experts is set.

    Args:
        model: A stock model that nobody else uses.
        options: See `timing_fault`.
    """
    if (experts := options.get("experts")) is not None:
        model.set_experts_implementation(experts)
    training = model.training
    return DecodeStep(model).train(training) if options.get("phase") == "decode" else model
