"""What a task needs of a pre-trained model: its tokenizer, and what it says of its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError, DataError
from nassearch.tasks.options import Option, TaskRequest

TOKENIZER_OPTION = Option("tokenizer", "str", None, "folder or hub id of a tokenizer; default: that of the run's model")
_LIMITS = ("max_position_embeddings", "n_positions", "max_source_positions")
_NO_LIMIT = 1_000_000  # tokenizers without a limit state an enormous one
_ROBERTA = ("roberta", "xlm-roberta", "camembert")


def load_tokenizer(request: TaskRequest) -> Any:
    """Return the tokenizer of the option ``tokenizer``, or that of the run's model.

    Raises:
        ConfigError: There is neither.
        DataError: It cannot be loaded.
    """
    given = request.options["tokenizer"]
    source = given or request.model
    if source is None:
        raise ConfigError(f"task {request.name!r} needs the model's tokenizer; add tokenizer=FOLDER")
    folder = request.path(source)
    if not folder.is_dir() and (given or "").startswith((".", "/", "~")):
        raise DataError(f"tokenizer={folder} is no folder; give one that a tokenizer's save_pretrained wrote")
    from transformers import AutoTokenizer

    local = folder.is_dir()
    try:
        return AutoTokenizer.from_pretrained(
            folder if local else source, local_files_only=local, trust_remote_code=request.trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        advice = "give a folder that a tokenizer's save_pretrained wrote"
        if not local:
            advice += "; a name of the hub needs network, or files that were fetched before"
        raise DataError(f"tokenizer={source} cannot be loaded: {_first_line(error)}; {advice}") from None


def text_limits(request: TaskRequest, tokenizer: Any) -> tuple[int | None, int | None]:
    """Return the most tokens of an input and the size of the vocabulary, each None where it is not known."""
    config = read_json(request, "config.json") or {}
    text = config.get("text_config") or config
    limits = [int(text[key]) for key in _LIMITS if isinstance(text.get(key), int) and text[key] > 0][:1]
    if limits and config.get("model_type") in _ROBERTA:
        limits[0] -= int(text.get("pad_token_id", 1)) + 1  # positions start behind the padding token's
    if tokenizer.model_max_length < _NO_LIMIT:
        limits.append(int(tokenizer.model_max_length))
    vocabulary = text.get("vocab_size")
    return min(limits, default=None), vocabulary if isinstance(vocabulary, int) else None


def fitting_length(option: str, given: int | None, default: int, limit: int | None) -> int:
    """Return a number of tokens: as given, else the default where the model allows it.

    Raises:
        ConfigError: More are asked for than the model has positions.
    """
    if given is None:
        return default if limit is None else min(default, limit)
    if limit is not None and given > limit:
        raise ConfigError(f"{option}={given} is more than the model's limit of {limit} tokens; give at most {limit}")
    return given


def check_vocabulary(largest: int, vocabulary: int | None) -> None:
    """Check that a model has the tokens of a tokenizer.

    Raises:
        DataError: It lacks some.
    """
    if vocabulary is not None and largest >= vocabulary:
        raise DataError(
            f"the tokenizer does not match the model: the data have token {largest}, the model's vocabulary ends at "
            f"{vocabulary - 1}; give the model's own tokenizer by tokenizer=FOLDER"
        )


@dataclass(frozen=True)
class ImageFacts:
    """What a model says of its images; None where it says nothing.

    Attributes:
        size: Width and height, pixels.
        channels: 1 or 3.
        mean: Of each channel, of pixels 0-255.
        std: Likewise.
    """

    size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def image_facts(request: TaskRequest) -> ImageFacts:
    """Return what the run's model says of its images.

    Raises:
        DataError: It wants images that are not square.
    """
    config = read_json(request, "config.json") or {}
    timm = config.get("pretrained_cfg") or {}
    # transformers 5 writes the image processor of a model for images and texts into that of both.
    both = read_json(request, "processor_config.json") or {}
    processor = both.get("image_processor") or read_json(request, "preprocessor_config.json") or {}
    vision = config.get("vision_config") or config
    size, channels = vision.get("image_size"), vision.get("num_channels")
    if timm.get("input_size"):
        channels, *size = timm["input_size"]
    if isinstance(size, list | tuple):
        if len(set(size)) != 1:
            raise DataError(f"the model {request.model} wants images of {list(size)} pixels; only square ones are made")
        size = size[0]
    mean, std, scale = timm.get("mean"), timm.get("std"), 255.0
    if processor.get("do_normalize", True) and "image_mean" in processor and "image_std" in processor:
        mean, std = processor["image_mean"], processor["image_std"]
        if processor.get("do_rescale", True):
            scale = 1 / float(processor.get("rescale_factor", 1 / 255))
    if mean is None or std is None:
        return ImageFacts(size, channels)
    return ImageFacts(size, channels, tuple(scale * float(x) for x in mean), tuple(scale * float(x) for x in std))


def hub_file(name: str, file: str) -> Path | None:
    """Return a file of a model on the hub in the local cache, to which it is fetched; None where there is none."""
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except (OSError, ValueError):  # no such model: whoever loads it says so
        return None
    return None if found is None else Path(found)


def read_json(request: TaskRequest, name: str) -> Mapping[str, Any] | None:
    """Return a file of the run's model, or None where it has none.

    Raises:
        DataError: It is no JSON.
    """
    if request.model is None:
        return None
    folder = request.path(request.model)
    found = folder / name if folder.is_dir() else hub_file(request.model, name)
    if found is None or not found.is_file():
        return None
    try:
        read = json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{found} is no JSON: {error}") from None
    return read if isinstance(read, dict) else None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
