"""Encoder-decoders: T5, BART, Marian."""

from __future__ import annotations

from supernets.transformer.family import Dim, Family, Stack


def _t5_heads(attention: str) -> Dim:
    return Dim(
        rows=tuple(f"{attention}.{part}" for part in "qkv"),
        columns=(f"{attention}.o",),
        tensors=(f"?{attention}.relative_attention_bias.weight@1",),
        attributes=(f"{attention}.n_heads", f"{attention}.inner_dim"),
        shared=True,  # the first layer's position bias is added in every layer
    )


def _t5_ffn(block: int) -> Dim:
    dense = f"layer.{block}.DenseReluDense"
    return Dim(rows=(f"?{dense}.wi", f"?{dense}.wi_0", f"?{dense}.wi_1"), columns=(f"{dense}.wo",))


T5 = Family(
    name="t5",
    library="transformers",
    models=("t5",),
    stacks=(
        Stack(
            name="encoder",
            layers="encoder.block",
            heads=_t5_heads("layer.0.SelfAttention"),
            ffn=_t5_ffn(1),
            n_heads="num_heads",
            depth_key="num_layers",
            ffn_key="d_ff",
            head_dim_key="d_kv",
            pinned=1,
            joint=True,
        ),
        Stack(
            name="decoder",
            layers="decoder.block",
            heads=_t5_heads("layer.0.SelfAttention"),
            cross_heads=_t5_heads("layer.1.EncDecAttention"),
            ffn=_t5_ffn(2),
            n_heads="num_heads",
            depth_key="num_decoder_layers",
            own_depth_key="num_layers",
            ffn_key="d_ff",
            head_dim_key="d_kv",
            pinned=1,
            joint=True,
        ),
    ),
    inputs=("text", "decoder_text"),
)


def _bart_heads(attention: str) -> Dim:
    return Dim(
        rows=tuple(f"{attention}.{part}_proj" for part in "qkv"),
        columns=(f"{attention}.out_proj",),
        attributes=(f"{attention}.num_heads",),
    )


_BART_FFN = Dim(rows=("fc1",), columns=("fc2",))

BART = Family(
    name="bart",
    library="transformers",
    models=("bart", "marian"),
    stacks=(
        Stack(
            name="encoder",
            layers="encoder.layers",
            heads=_bart_heads("self_attn"),
            ffn=_BART_FFN,
            n_heads="encoder_attention_heads",
            depth_key="encoder_layers",
            ffn_key="encoder_ffn_dim",
        ),
        Stack(
            name="decoder",
            layers="decoder.layers",
            heads=_bart_heads("self_attn"),
            cross_heads=_bart_heads("encoder_attn"),
            ffn=_BART_FFN,
            n_heads="decoder_attention_heads",
            depth_key="decoder_layers",
            ffn_key="decoder_ffn_dim",
        ),
    ),
    inputs=("text", "decoder_text"),
)

FAMILIES = (T5, BART)
