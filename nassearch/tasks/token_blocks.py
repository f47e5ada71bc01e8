"""Texts as blocks of tokens: read, tokenised once, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError

CACHE_VARIABLE = "NASSEARCH_CACHE"
_DEFAULT_CACHE = "~/.cache/nassearch"
_PIECE = 65_536
_VERSION = 1


@dataclass(frozen=True)
class Stream:
    """The tokens of some documents, one after the other.

    Attributes:
        ids: int32 ``[tokens]``.
        bytes_per_token: UTF-8 bytes of the documents for each token.
    """

    ids: NDArray[np.int32]
    bytes_per_token: float

    def blocks(self, length: int) -> NDArray[np.int32]:
        """Return all whole blocks of a length, int32 ``[blocks, length]``; the rest is left out."""
        count = len(self.ids) // length
        return self.ids[: count * length].reshape(count, length)


def tokenise(origin: str, documents: Sequence[str], tokenizer: Any, end: bool, cache: str | None) -> Stream:
    """Tokenise documents, or take what an earlier call with the same documents and tokenizer has kept.

    Documents are tokenised in pieces of whole lines, of about 65,536 characters: tokens do not cross from one piece to
    the next. No special tokens are added but the end of text.

    Args:
        origin: Where the documents are from, for errors.
        documents: The texts.
        tokenizer: Of transformers.
        end: Whether each document ends with the tokenizer's end of text, where it has one.
        cache: Folder in which the tokens are kept. Default: ``$NASSEARCH_CACHE``, else ``~/.cache/nassearch``.

    Raises:
        DataError: There is no token.
    """
    mark = [tokenizer.eos_token_id] if end and tokenizer.eos_token_id is not None else []
    key = _key(documents, tokenizer, mark)
    folder = Path(cache or os.environ.get(CACHE_VARIABLE) or _DEFAULT_CACHE).expanduser() / "tokens"
    ids = _kept(folder / f"{key}.npy")
    if ids is None:
        parts = [
            np.array(numbers, dtype=np.int32)
            for document in documents
            for numbers in (
                *(tokenizer(p, add_special_tokens=False, verbose=False)["input_ids"] for p in _pieces(document)),
                mark,
            )
        ]
        ids = np.concatenate([np.zeros(0, np.int32), *parts])
        _keep(folder / f"{key}.npy", ids)
    if not len(ids):
        raise DataError(f"{origin} has no tokens; give files with text")
    return Stream(ids, sum(len(d.encode()) for d in documents) / len(ids))


def _key(documents: Sequence[str], tokenizer: Any, mark: list[int]) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    digest = hashlib.sha256(json.dumps([_VERSION, _PIECE, type(tokenizer).__name__, mark]).encode())
    for text in (rules, *documents):
        content = text.encode()
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()[:40]


def _pieces(document: str) -> Iterator[str]:
    """Yield a document in pieces that end with lines, where it has lines."""
    start = 0
    while start < len(document):
        line = document.find("\n", start + _PIECE)
        end = len(document) if line < 0 else line + 1
        yield document[start:end]
        start = end


def _kept(file: Path) -> NDArray[np.int32] | None:
    """Return kept tokens; None where there are none, or a damaged file."""
    try:
        ids = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return ids if ids.dtype == np.int32 and ids.ndim == 1 else None


def _keep(file: Path, ids: NDArray[np.int32]) -> None:
    """Keep tokens, whole or not at all. Where nothing can be written they are made anew each time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, ids, allow_pickle=False)
        Path(name).replace(file)
    except OSError:  # a full disk, say
        Path(name).unlink(missing_ok=True)
