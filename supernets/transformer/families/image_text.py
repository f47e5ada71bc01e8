"""Image-text models: CLIP."""

from __future__ import annotations

from dataclasses import replace

from supernets.transformer.family import Dim, Family, Stack

_LAYERS = Stack(
    name="text",
    layers="text_model.encoder.layers",
    config="text_config",
    heads=Dim(
        rows=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        columns=("self_attn.out_proj",),
        attributes=("self_attn.num_heads",),
    ),
    ffn=Dim(rows=("mlp.fc1",), columns=("mlp.fc2",)),
)

CLIP = Family(
    name="clip",
    library="transformers",
    models=("clip",),
    stacks=(_LAYERS, replace(_LAYERS, name="vision", layers="vision_model.encoder.layers", config="vision_config")),
    inputs=("text", "image"),
)

CLIP_TEXT = Family(
    name="clip-text",
    library="transformers",
    models=("clip_text_model",),
    stacks=(replace(_LAYERS, name="", layers="encoder.layers", config=""),),
    inputs=("text",),
)

CLIP_VISION = Family(
    name="clip-vision",
    library="transformers",
    models=("clip_vision_model",),
    stacks=(replace(_LAYERS, name="", layers="encoder.layers", config=""),),
    inputs=("image",),
)

FAMILIES = (CLIP, CLIP_TEXT, CLIP_VISION)
