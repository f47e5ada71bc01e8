"""Encoders of text: BERT and its relatives, DistilBERT, DeBERTa-v2."""

from __future__ import annotations

from supernets.transformer.family import Dim, Family, Stack

BERT = Family(
    name="bert",
    library="transformers",
    models=("bert", "roberta", "electra", "xlm-roberta", "camembert"),
    stacks=(
        Stack(
            layers="encoder.layer",
            heads=Dim(
                rows=("attention.self.query", "attention.self.key", "attention.self.value"),
                columns=("attention.output.dense",),
                attributes=("attention.self.num_attention_heads", "attention.self.all_head_size"),
            ),
            ffn=Dim(rows=("intermediate.dense",), columns=("output.dense",)),
        ),
    ),
    inputs=("text",),
)

DISTILBERT = Family(
    name="distilbert",
    library="transformers",
    models=("distilbert",),
    stacks=(
        Stack(
            layers="transformer.layer",
            heads=Dim(
                rows=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
                columns=("attention.out_lin",),
                attributes=("attention.n_heads",),
            ),
            ffn=Dim(rows=("ffn.lin1",), columns=("ffn.lin2",)),
            ffn_key="hidden_dim",
        ),
    ),
    inputs=("text",),
)

DEBERTA_V2 = Family(
    name="deberta-v2",
    library="transformers",
    models=("deberta-v2",),
    stacks=(
        Stack(
            layers="encoder.layer",
            heads=Dim(
                rows=(
                    "attention.self.query_proj",
                    "attention.self.key_proj",
                    "attention.self.value_proj",
                    "?attention.self.pos_key_proj",
                    "?attention.self.pos_query_proj",
                ),
                columns=("attention.output.dense",),
                attributes=("attention.self.num_attention_heads", "attention.self.all_head_size"),
            ),
            ffn=Dim(rows=("intermediate.dense",), columns=("output.dense",)),
        ),
    ),
    inputs=("text",),
)

FAMILIES = (BERT, DISTILBERT, DEBERTA_V2)
