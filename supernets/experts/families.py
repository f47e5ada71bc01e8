"""Where the Mixture-of-Experts models of transformers write the sizes of their experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class ExpertFamily:
    """One kind of model whose experts can be configured.

    Blocks are found by their shape (see `supernets.experts.blocks`); the table says what cannot be read off them.

    Args:
        model_type: ``config.model_type``.
        count: Key of the number of experts.
        width: Key of the neurons of an expert.
        router: Name of the router in a block.
        top_k: Key of the experts per token.
        shared: Key of the number of shared experts where ``width`` sizes these too, else empty.
        sigmoid: Whether routing scores are sigmoids instead of a softmax.
    """

    model_type: str
    count: str
    width: str = "moe_intermediate_size"
    router: str = "gate"
    top_k: str = "num_experts_per_tok"
    shared: str = ""
    sigmoid: bool = False


FAMILIES: dict[str, ExpertFamily] = {
    f.model_type: f
    for f in (
        ExpertFamily("mixtral", "num_local_experts", width="intermediate_size"),
        ExpertFamily("olmoe", "num_experts", width="intermediate_size"),
        ExpertFamily("qwen2_moe", "num_experts"),
        ExpertFamily("qwen3_moe", "num_experts"),
        ExpertFamily("deepseek_v2", "n_routed_experts", shared="n_shared_experts"),
        ExpertFamily("deepseek_v3", "n_routed_experts", shared="n_shared_experts", sigmoid=True),
        ExpertFamily("gpt_oss", "num_local_experts", width="intermediate_size", router="router"),
        ExpertFamily("granitemoe", "num_local_experts", width="intermediate_size", router="router"),
        ExpertFamily("glm4_moe", "n_routed_experts", shared="n_shared_experts", sigmoid=True),
        ExpertFamily("dots1", "n_routed_experts", shared="n_shared_experts", sigmoid=True),
    )
}


def family_of(model: nn.Module) -> ExpertFamily | None:
    """Return the family of a stock causal language model with experts; imports nothing."""
    config: Any = getattr(model, "config", None)
    stock = type(model).__module__.startswith("transformers.models.")
    return FAMILIES.get(getattr(config, "model_type", "")) if stock else None
