"""Pre-trained Transformers of transformers and timm as supernets."""

from supernets.transformer.catalogue import register_transformer_family, transformer_families
from supernets.transformer.families import FAMILIES
from supernets.transformer.family import Dim, Family, Stack
from supernets.transformer.supernet import TransformerSupernet

for _family in FAMILIES:
    register_transformer_family(_family)

__all__ = [
    "Dim",
    "Family",
    "Stack",
    "TransformerSupernet",
    "register_transformer_family",
    "transformer_families",
]
