"""Example inputs of stock models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from supernets.base import Inputs
from supernets.errors import SupernetError
from supernets.transformer.family import Family

_LENGTH = 128
_LIMIT_KEYS = ("max_position_embeddings", "n_positions", "max_source_positions")
_OFFSET_FAMILIES = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class InputShapes:
    """What a model takes.

    Attributes:
        text: Whether it takes token numbers.
        image: ``(channels, height, width)`` where it takes images.
        decoder: Whether it takes the token numbers of a decoder, too.
        by_name: Whether inputs are given by keyword.
        vocabulary: Token numbers are below it.
        end_token: The token that ends each text, where models look for it.
        sequence: Tokens of a text; None without text.
        limit: The most that the model's positions allow; None without a limit.
    """

    text: bool
    image: tuple[int, int, int] | None
    decoder: bool
    by_name: bool
    vocabulary: int
    end_token: int | None
    sequence: int | None
    limit: int | None

    @classmethod
    def of(cls, model: nn.Module, family: Family, sequence: int | None) -> InputShapes:
        """Read the shapes off a model.

        Raises:
            SupernetError: The sequence length is not possible.
        """
        config: Any = getattr(model, "config", None)
        text_config = getattr(config, "text_config", config)
        text = "text" in family.inputs
        limit = _limit(text_config) if text else None
        end = getattr(text_config, "eos_token_id", None)
        shapes = cls(
            text=text,
            image=_image(model, config) if "image" in family.inputs else None,
            decoder="decoder_text" in family.inputs and _has_decoder(model, config),
            by_name=family.library == "transformers",
            vocabulary=int(getattr(text_config, "vocab_size", 0) or 0),
            end_token=end if isinstance(end, int) else None,
            sequence=min(_LENGTH, limit or _LENGTH) if text else None,
            limit=limit,
        )
        if sequence is not None and not text:
            raise SupernetError(f"sequence={sequence!r}: a {type(model).__name__} takes no text; leave it out")
        return shapes if sequence is None else shapes.with_length(sequence)

    def with_length(self, sequence: int) -> InputShapes:
        """Return the shapes with another sequence length.

        Raises:
            SupernetError: There is no text, or it is not a positive integer within the model's limit.
        """
        if not self.text:
            raise SupernetError(f"sequence={sequence!r}: the model takes no text; leave it out")
        longest = self.limit if self.limit is not None else sequence
        if isinstance(sequence, bool) or not isinstance(sequence, int) or not 1 <= sequence <= longest:
            allowed = "a positive integer" if self.limit is None else f"1 to {self.limit}, the model's positions"
            raise SupernetError(f"sequence must be {allowed}, got {sequence!r}")
        return replace(self, sequence=sequence)


def _limit(config: Any) -> int | None:
    found = [getattr(config, key, None) for key in _LIMIT_KEYS]
    limit = next((int(v) for v in found if isinstance(v, int) and v > 0), None)
    if limit is not None and config.model_type in _OFFSET_FAMILIES:
        limit -= config.pad_token_id + 1  # positions start behind the padding token's
    return limit


def _has_decoder(model: Any, config: Any) -> bool:
    return bool(getattr(config, "is_encoder_decoder", False)) and hasattr(model.base_model, "decoder")


def _image(model: Any, config: Any) -> tuple[int, int, int]:
    if config is None:  # timm
        size = model.patch_embed.img_size or model.pretrained_cfg["input_size"][-2:]
        return (int(model.patch_embed.proj.weight.shape[1]), int(size[0]), int(size[1]))
    vision = getattr(config, "vision_config", config)
    size = vision.image_size if isinstance(vision.image_size, list | tuple) else (vision.image_size,) * 2
    return (int(vision.num_channels), int(size[0]), int(size[1]))


def example_inputs(shapes: InputShapes, batch_size: int, like: Tensor) -> Inputs:
    """Return random inputs, always the same.

    Args:
        shapes: What the model takes.
        batch_size: Number of inputs.
        like: A parameter: images have its dtype, and all its device.
    """
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Tensor] = {}
    if shapes.text:
        inputs["input_ids"] = _tokens(shapes, batch_size, generator)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if shapes.decoder:
        inputs["decoder_input_ids"] = _tokens(shapes, batch_size, generator)
    if shapes.image is not None:
        images = torch.randn(batch_size, *shapes.image, generator=generator)
        inputs["pixel_values"] = images.to(like.dtype)
    placed = {name: t.to(like.device) for name, t in inputs.items()}
    return placed if shapes.by_name else tuple(placed.values())


def _tokens(shapes: InputShapes, batch_size: int, generator: torch.Generator) -> Tensor:
    # Special tokens have low or the last numbers: from the middle on, no padding is drawn.
    low = shapes.vocabulary // 4
    shape = (batch_size, shapes.sequence or 1)
    tokens = torch.randint(low, max(low + 1, shapes.vocabulary - 1), shape, generator=generator)
    if shapes.end_token is not None and shapes.end_token < shapes.vocabulary:
        tokens[tokens == shapes.end_token] = low
        tokens[:, -1] = shapes.end_token
    return tokens
