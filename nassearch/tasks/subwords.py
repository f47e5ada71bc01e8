"""A vocabulary of subwords of both languages, and sentences as its tokens, made once and cached."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError

BEGIN, PADDING, END, UNKNOWN = 0, 1, 2, 3
"""Tokens with a meaning, numbered as the translation supernets expect them."""

_FORMAT = 1


def sentencepiece() -> Any:
    """Return the package.

    Raises:
        DataError: It is not installed.
    """
    try:
        return import_module("sentencepiece")
    except ImportError as error:
        raise DataError(
            "translation needs the package 'sentencepiece'; install it with 'pip install sentencepiece'"
        ) from error


def train_vocabulary(sentences: Sequence[str], size: int) -> bytes:
    """Return a byte-pair vocabulary learnt from sentences, as a sentencepiece model.

    Args:
        sentences: Of both languages.
        size: Number of tokens.

    Raises:
        DataError: The sentences do not have so many subwords.
    """
    model = io.BytesIO()
    try:
        sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, vocab_size=size, model_type="bpe",
            character_coverage=1.0, num_threads=1, bos_id=BEGIN, pad_id=PADDING, eos_id=END, unk_id=UNKNOWN,
            input_sentence_size=0, minloglevel=2,
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DataError(
            f"no vocabulary of {size} tokens can be learnt from {len(sentences)} sentences: {reason}; give another "
            "vocab_size"
        ) from None
    return model.getvalue()


def processor(model: bytes, where: str = "the vocabulary") -> Any:
    """Return the sentencepiece processor of a model.

    Raises:
        DataError: It is none, or its special tokens have other numbers.
    """
    try:
        loaded = sentencepiece().SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{where} is no sentencepiece model: {error}") from None
    numbers = (loaded.pad_id(), loaded.eos_id())
    if numbers != (PADDING, END):
        raise DataError(
            f"{where} has padding and end at {numbers}, the translation networks at {(PADDING, END)}; train it with "
            f"pad_id={PADDING}, eos_id={END}, bos_id={BEGIN}, unk_id={UNKNOWN}"
        )
    return loaded


def tokenised(
    source: list[str], target: list[str], learn_from: int, size: int, vocabulary: Path | None, cache: Path
) -> dict[str, NDArray[Any]]:
    """Return both sides as tokens, from the cache where the same was asked for before.

    Args:
        source: Sentences.
        target: Their translations.
        learn_from: Of so many first pairs the vocabulary is learnt: those that are trained on.
        size: Tokens of the vocabulary.
        vocabulary: A sentencepiece model to use instead of learning one.
        cache: Folder of the cache.

    Returns:
        ``model`` (uint8), and for ``source`` and ``target``: ids int32 and ``…_starts`` int64 ``[n + 1]``.

    Raises:
        DataError: The vocabulary cannot be learnt or read.
    """
    given = _bytes_of(vocabulary)
    settings = [_FORMAT, learn_from, size, None if given is None else hashlib.sha256(given).hexdigest()]
    digest = hashlib.sha256(json.dumps([sentencepiece().__version__, *settings]).encode())
    for text in (*source, "", *target):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    path = cache / f"{digest.hexdigest()[:32]}.npz"
    if (found := _read(path)) is not None:
        return found
    model = train_vocabulary([*source[:learn_from], *target[:learn_from]], size) if given is None else given
    encoder = processor(model, str(vocabulary or "the vocabulary"))
    arrays: dict[str, NDArray[Any]] = {"model": np.frombuffer(model, dtype=np.uint8)}
    for name, sentences in (("source", source), ("target", target)):
        ids = encoder.encode(sentences, add_eos=True)
        arrays[f"{name}_starts"] = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        arrays[name] = np.concatenate([np.array(x, dtype=np.int32) for x in ids])
    _write(path, arrays)
    return arrays


def default_cache() -> Path:
    """Return the user's folder of tokenised texts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nassearch" / "translation"


def _bytes_of(vocabulary: Path | None) -> bytes | None:
    if vocabulary is None:
        return None
    try:
        return vocabulary.read_bytes()
    except OSError as error:
        raise DataError(
            f"vocabulary={vocabulary} cannot be read: {error.strerror}; give a sentencepiece model"
        ) from None


_NAMES = ("model", "source", "source_starts", "target", "target_starts")


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return what a file of the cache holds; None where there is none, or a damaged one, which is then made anew."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in _NAMES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a file of the cache whole or not at all; a cache that cannot be written is done without."""
    scratch: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        Path(scratch).replace(path)
    except OSError:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
