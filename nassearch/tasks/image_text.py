"""Images classified by the texts of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.tasks.base import Inputs
from nassearch.tasks.classification import ImageClassification
from nassearch.tasks.texts import Tokens


class ImageTextClassification(ImageClassification):
    """Each image is compared with one text of each class, as CLIP does without training and is fine-tuned with it.

    The scores are the model's ``logits_per_image``, ``[images, classes]``; trained by cross-entropy over the classes
    (Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021).

    Args:
        prompts: The tokenised text of each class, in the order of the classes.
        arguments: Those of `ImageClassification`.
    """

    auto_model = "AutoModelForZeroShotImageClassification"

    def __init__(self, *, prompts: Tokens, **arguments: Any) -> None:
        self.prompts = prompts
        texts = prompts.inputs(np.arange(1))
        self.shared_inputs = frozenset(texts if isinstance(texts, Mapping) else ())
        super().__init__(**arguments)
        self.training_defaults |= {"epochs": 3, "batch_size": 32}

    def _facts(self) -> list[Any]:
        return [*super()._facts(), self.prompts.ids.tolist(), self.prompts.starts.tolist(), self.prompts.padding]

    def to_inputs(self, images: NDArray[Any]) -> Inputs:
        """Return ``pixel_values`` ``[n, c, h, w]`` of images, and the tokens of all classes ``[classes, tokens]``."""
        pixels, texts = super().to_inputs(images), self.prompts.inputs(np.arange(len(self.class_names)))
        assert isinstance(pixels, tuple) and isinstance(texts, Mapping)  # noqa: S101, PT018 - images go by position
        return {**texts, "pixel_values": pixels[0]}

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        settings, arrays = super().to_payload()
        more: dict[str, NDArray[Any]] = {"prompt.ids": self.prompts.ids, "prompt.starts": self.prompts.starts}
        return settings | {"padding": self.prompts.padding}, arrays | more

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Return the arguments that `to_payload` told."""
        prompts = Tokens(arrays["prompt.ids"], arrays["prompt.starts"], settings["padding"])
        return super().restored(settings, arrays) | {"prompts": prompts}
