"""Vision Transformers of timm: ViT and DeiT, BEiT, EVA."""

from __future__ import annotations

from supernets.transformer.family import Dim, Family, Stack

VISION_TRANSFORMER = Family(
    name="timm-vit",
    library="timm",
    models=("VisionTransformer", "VisionTransformerDistilled"),
    stacks=(
        Stack(
            layers="blocks",
            heads=Dim(
                rows=("attn.qkv:3", "?attn.gate"),
                columns=("attn.proj",),
                attributes=("attn.num_heads", "attn.attn_dim"),
            ),
            ffn=Dim(rows=("mlp.fc1", "mlp.norm"), columns=("mlp.fc2",)),
            n_heads="attn.num_heads",
        ),
    ),
    inputs=("image",),
    needs={"attn": "Attention", "mlp": "Mlp", "attn.norm": "Identity"},
)

# The attention of these reshapes its result to the width of the model, so it cannot run with fewer heads.
_FIXED_HEADS = Stack(
    layers="blocks",
    heads=None,
    # SwiGLU comes with separate (fc1_g, fc1_x) or packed weights (GluMlp: fc1 holds two parts).
    ffn=Dim(rows=("?mlp.fc1_g", "?mlp.fc1_x", "?mlp.fc1:*", "mlp.norm"), columns=("mlp.fc2",)),
)

BEIT = Family(
    name="timm-beit",
    library="timm",
    models=("Beit",),
    stacks=(_FIXED_HEADS,),
    inputs=("image",),
)

EVA = Family(
    name="timm-eva",
    library="timm",
    models=("Eva",),
    stacks=(_FIXED_HEADS,),
    inputs=("image",),
)

FAMILIES = (VISION_TRANSFORMER, BEIT, EVA)
