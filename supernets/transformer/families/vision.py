"""Vision Transformers of transformers: ViT, DeiT, BEiT."""

from __future__ import annotations

from supernets.transformer.family import Dim, Family, Stack

_ATTENTION = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_FFN = Dim(rows=("mlp.fc1",), columns=("mlp.fc2",))

VIT = Family(
    name="vit",
    library="transformers",
    models=("vit", "deit"),
    stacks=(
        Stack(
            layers="layers",
            heads=Dim(rows=_ATTENTION, columns=("attention.o_proj",), attributes=("attention.num_attention_heads",)),
            ffn=_FFN,
            head_dim_key="head_dim",
        ),
    ),
    inputs=("image",),
)

BEIT = Family(
    name="beit",
    library="transformers",
    models=("beit",),
    stacks=(
        Stack(
            layers="layers",
            heads=Dim(
                rows=_ATTENTION,
                columns=("attention.o_proj",),
                tensors=("?relative_position_bias.relative_position_bias_table@1",),
                attributes=("attention.num_attention_heads",),
            ),
            ffn=_FFN,
            head_dim_key="head_dim",
            fixed_heads_when="use_shared_relative_position_bias",
        ),
    ),
    inputs=("image",),
)

FAMILIES = (VIT, BEIT)
