"""A family of the user's own: the adapter guide's example, for Meta's OPT."""

from supernets.transformer import Dim, Family, Stack, register_transformer_family

OPT = register_transformer_family(
    Family(
        name="opt",
        library="transformers",
        models=("opt",),
        stacks=(
            Stack(
                layers="decoder.layers",
                heads=Dim(
                    rows=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                    columns=("self_attn.out_proj",),
                    attributes=("self_attn.num_heads",),
                ),
                ffn=Dim(rows=("fc1",), columns=("fc2",)),
                ffn_key="ffn_dim",
            ),
        ),
        inputs=("text",),
    )
)
