"""The tables of the families, none of which imports the library of its models."""

from supernets.transformer.families import (
    decoders,
    encoder_decoders,
    image_text,
    text_encoders,
    timm_vision,
    vision,
)
from supernets.transformer.family import Family

FAMILIES: tuple[Family, ...] = (
    *text_encoders.FAMILIES,
    *vision.FAMILIES,
    *timm_vision.FAMILIES,
    *decoders.FAMILIES,
    *encoder_decoders.FAMILIES,
    *image_text.FAMILIES,
)

__all__ = ["FAMILIES"]
