"""Causal language models: Llama and its relatives, GPT-2, GPT-NeoX."""

from __future__ import annotations

from supernets.transformer.family import Dim, Family, Stack

LLAMA = Family(
    name="llama",
    library="transformers",
    models=("llama", "mistral", "qwen2", "qwen3", "gemma"),
    stacks=(
        Stack(
            layers="layers",
            heads=Dim(
                rows=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                columns=("self_attn.o_proj",),
            ),
            ffn=Dim(
                rows=("mlp.gate_proj", "mlp.up_proj"), columns=("mlp.down_proj",), attributes=("mlp.intermediate_size",)
            ),
            n_groups="num_key_value_heads",
            head_dim_key="head_dim",
        ),
    ),
    inputs=("text",),
)

GPT2 = Family(
    name="gpt2",
    library="transformers",
    models=("gpt2",),
    stacks=(
        Stack(
            layers="h",
            heads=Dim(
                rows=("attn.c_attn:3",),
                columns=("attn.c_proj",),
                attributes=("attn.num_heads", "attn.split_size"),
            ),
            ffn=Dim(rows=("mlp.c_fc",), columns=("mlp.c_proj",)),
            ffn_key="n_inner",
        ),
    ),
    inputs=("text",),
)

GPT_NEOX = Family(
    name="gpt_neox",
    library="transformers",
    models=("gpt_neox",),
    stacks=(
        Stack(
            layers="layers",
            # Query, key and value of one head lie together: a prefix of heads is a prefix of rows.
            heads=Dim(rows=("attention.query_key_value",), columns=("attention.dense",)),
            ffn=Dim(rows=("mlp.dense_h_to_4h",), columns=("mlp.dense_4h_to_h",)),
        ),
    ),
    inputs=("text",),
)

FAMILIES = (LLAMA, GPT2, GPT_NEOX)
