"""Tiny Mixture-of-Experts models with random weights, one or more of each family."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import Tensor

TEXT = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 32}
BASE = {
    **TEXT,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 3,
}
OWN = {"moe_intermediate_size": 16, "intermediate_size": 20}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("Mixtral", {**BASE, "intermediate_size": 16, "num_local_experts": 8, "head_dim": 4}),
    "olmoe": ("Olmoe", {**BASE, "intermediate_size": 16, "num_experts": 8}),
    "olmoe_norm": ("Olmoe", {**BASE, "intermediate_size": 16, "num_experts": 8, "norm_topk_prob": True}),
    "qwen2_moe": (
        "Qwen2Moe",
        {**BASE, **OWN, "num_experts": 8, "shared_expert_intermediate_size": 10, "mlp_only_layers": [1]},
    ),
    "qwen3_moe": ("Qwen3Moe", {**BASE, **OWN, "num_local_experts": 8, "head_dim": 4, "norm_topk_prob": True}),
    "deepseek_v2": ("DeepseekV2", {**BASE, **OWN, **LATENT}),
    "deepseek_v2_groups": (
        "DeepseekV2",
        {**BASE, **OWN, **LATENT, "topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1},
    ),
    "deepseek_v3": ("DeepseekV3", {**BASE, **OWN, **LATENT, "n_group": 2, "topk_group": 1}),
    "gpt_oss": (
        "GptOss",
        {**BASE, "intermediate_size": 16, "num_local_experts": 8, "head_dim": 4, "sliding_window": 6},
    ),
    "granitemoe": (
        "GraniteMoe",
        {**BASE, "intermediate_size": 16, "num_local_experts": 8, "residual_multiplier": 0.5},
    ),
    "glm4_moe": (
        "Glm4Moe",
        {**BASE, **OWN, "head_dim": 4, "n_routed_experts": 8, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    ),
    "dots1": (
        "Dots1",
        {**BASE, **OWN, "head_dim": 4, "n_routed_experts": 8, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    ),
}


def make_moe(name: str, implementation: str | None = None, **changes: Any) -> Any:
    """Return a tiny model whose every weight matters, the same at each call.

    Args:
        name: One of `CONFIGS`.
        implementation: Of the experts. Default: transformers' own choice.
        **changes: Other values of the configuration.
    """
    kind, options = CONFIGS[name]
    torch.manual_seed(5)
    model = getattr(hf, f"{kind}ForCausalLM")(getattr(hf, f"{kind}Config")(**{**options, **changes})).eval()
    if implementation is not None:
        model.set_experts_implementation(implementation)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.2 if parameter.ndim > 1 else 0.1
            noise = scale * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + (0.0 if parameter.ndim > 1 else 1.0))
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("e_score_correction_bias"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
    return model


def batches(n: int = 2, size: int = 3, length: int = 9, seed: int = 0) -> list[dict[str, Tensor]]:
    """Return batches of random tokens, some of them padding."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        tokens = torch.randint(3, 39, (size, length), generator=generator)
        mask = torch.ones_like(tokens)
        mask[0, -2:] = 0
        made.append({"input_ids": tokens, "attention_mask": mask})
    return made
