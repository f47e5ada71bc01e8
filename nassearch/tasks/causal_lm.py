"""Causal language models on text files or data sets of the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import DataError
from nassearch.tasks.options import Option, TaskRequest
from nassearch.tasks.pretrained import (
    TOKENIZER_OPTION,
    check_vocabulary,
    fitting_length,
    load_tokenizer,
    text_limits,
)
from nassearch.tasks.registry import register_task
from nassearch.tasks.splits import SPLITS
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from nassearch.tasks.base import Task
    from nassearch.tasks.token_blocks import Stream

_BLOCK = 256
_EXTENSIONS = (".txt", ".jsonl")
_PARTS = {"train": ("train",), "search": ("valid", "validation", "dev", "val"), "report": ("test",)}
_SHARES = {"calibration": 0.05, "search": 0.1, "report": 0.1}
_MOST = {"calibration": 256, "search": 1_000, "report": 5_000}
_LAYOUT = "a .txt or .jsonl file, or a folder of such; files named train, valid and test are used as such"
_OPTIONS = (
    TOKENIZER_OPTION,
    Option("block", "int", None, f"tokens of a block; default: {_BLOCK}, or the model's limit", minimum=2),
    Option("text", "str", "text", "column of the texts, in .jsonl files and data sets of the hub"),
    Option("separator", "str", "eos", "what ends each document, where the tokenizer has it", choices=("eos", "none")),
    Option("cache", "str", None, "folder for tokens; default: $NASSEARCH_CACHE, else ~/.cache/nassearch"),
    Option("revision", "str", None, "commit, tag or branch of a data set of the hub"),
    Option("train", "int", None, "number of training blocks", minimum=1),
    Option("calibration", "int", None, "number of blocks for statistics of the model", minimum=1),
    Option("search", "int", None, "number of blocks the search sees", minimum=1),
    Option("report", "int", None, "number of blocks the final report uses", minimum=1),
)


def _restore(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    from nassearch.tasks.language import LanguageModelling

    return LanguageModelling.from_payload(settings, arrays)


@register_task("causal-lm", usage="causal-lm:text:FILE_OR_DIR|hf:NAME[:CONFIG]", options=_OPTIONS, restore=_restore)
def build(request: TaskRequest) -> Task:
    """Next tokens of text files, or of a data set of the hub: negative log-likelihood and perplexity."""
    from nassearch.tasks.language import LanguageModelling
    from nassearch.tasks.token_blocks import tokenise

    options = request.options
    tokenizer = load_tokenizer(request)
    limit, vocabulary = text_limits(request, tokenizer)
    block = fitting_length("block", options["block"], _BLOCK, limit)
    origin, documents = _documents(request)
    streams = {
        name: tokenise(f"{origin} ({name})", texts, tokenizer, options["separator"] == "eos", options["cache"])
        for name, texts in documents.items()
    }
    blocks = _divide(origin, streams, block, {name: options[name] for name in SPLITS})
    check_vocabulary(max(int(part.max()) for part in blocks.values()), vocabulary)
    sources = {name: streams.get(name, streams["train"]) for name in SPLITS}
    return LanguageModelling(
        name=request.name,
        spec=request.spec,
        blocks=blocks,
        bytes_per_token={name: stream.bytes_per_token for name, stream in sources.items()},
        vocabulary=max(len(tokenizer), vocabulary or 0),
        seed=request.seed,
        details={"source": origin, "separator": options["separator"]},
    )


def _divide(
    origin: str, streams: Mapping[str, Stream], block: int, given: Mapping[str, int | None]
) -> dict[str, NDArray[np.int32]]:
    """Cut the tokens into blocks, and the training text into contiguous splits: train, calibration, search, report.

    Raises:
        DataError: Too few tokens; the message says how many are needed.
    """
    own = {name: stream.blocks(block) for name, stream in streams.items()}
    pool, faults = own.pop("train"), []
    sizes = {}
    for name in ("calibration", "search", "report"):
        have = len(own[name]) if name in own else max(1, round(_SHARES[name] * len(pool)))
        sizes[name] = given[name] or max(1, min(have, _MOST[name]))
    for name, part in own.items():
        if len(part) < sizes[name]:
            faults.append(
                f"{origin}: the {name} text is too short: {len(streams[name].ids)} tokens, {sizes[name] * block} are "
                f"needed for {name}={sizes[name]} blocks of {block}; add text or give a smaller block= or {name}="
            )
    taken = {name: sizes[name] for name in ("calibration", "search", "report") if name not in own}
    n_train = given["train"] or max(1, len(pool) - sum(taken.values()))
    needed = n_train + sum(taken.values())
    if needed > len(pool):
        listed = " + ".join(f"{n} {name}" for name, n in {"train": n_train, **taken}.items())
        faults.append(
            f"{origin}: the text is too short: {len(streams['train'].ids)} tokens, {needed * block} are needed for "
            f"{needed} blocks of {block} ({listed}); add text or give a smaller block= or fewer blocks"
        )
    if faults:
        raise DataError(faults)
    parts, start = {"train": pool[:n_train]}, n_train
    for name, size in taken.items():
        parts[name] = pool[start : start + size]
        start += size
    return parts | {name: part[: sizes[name]] for name, part in own.items()}


def _documents(request: TaskRequest) -> tuple[str, dict[str, list[str]]]:
    """Return what to call the source, and the documents of train and, where there are some, search and report."""
    from nassearch.tasks.hub import PREFIX, is_saved, load_hub, load_saved

    argument, column = request.argument, request.options["text"]
    if argument.startswith(PREFIX):
        name, _, config = argument.removeprefix(PREFIX).partition(":")
        parts = load_hub(name, config, request.options["revision"], "files: causal-lm:text:FILE_OR_DIR")
        return argument, _of_parts(argument, parts, column)
    path = request.path(argument.removeprefix("text:"))
    if not path.exists():
        raise DataError(f"the text {path} does not exist; give {_LAYOUT}")
    if path.is_file():
        return str(path), {"train": _read(path, column)}
    if is_saved(path):
        return str(path), _of_parts(str(path), load_saved(path), column)
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in _EXTENSIONS and not f.name.startswith("."))
    if not files:
        raise DataError(f"the folder {path} has no texts; give {_LAYOUT}")
    by_part: dict[str, list[Path]] = {"train": [], "search": [], "report": []}
    for file in files:
        part = next((name for name, stems in _PARTS.items() if file.stem.lower() in stems), "train")
        by_part[part].append(file)
    if not by_part["train"]:  # the validation text is then divided
        by_part["train"], by_part["search"] = by_part["search"] or by_part["report"], []
        if by_part["train"] == by_part["report"]:
            by_part["report"] = []
    read = {name: [text for file in found for text in _read(file, column)] for name, found in by_part.items()}
    return str(path), {name: texts for name, texts in read.items() if texts}


def _of_parts(origin: str, parts: Mapping[str, Any], column: str) -> dict[str, list[str]]:
    found = {name: next((s for s in stems if s in parts), None) for name, stems in _PARTS.items()}
    found["train"] = found["train"] or next(iter(parts))
    texts = {}
    for name, part in found.items():
        if part is None or (name != "train" and part == found["train"]):
            continue
        if column not in parts[part].features:
            known = parts[part].features
            raise DataError(
                f"{origin} has no column {column!r}{did_you_mean(column, known)}; its columns: {', '.join(known)}; "
                "name one by text="
            )
        texts[name] = [str(text) for text in parts[part][column] if text]
    return texts


def _read(path: Path, column: str) -> list[str]:
    """Return the documents of a file: the whole of a .txt, each line of a .jsonl.

    Raises:
        DataError: It cannot be read, is empty, or is of another kind.
    """
    if path.suffix.lower() not in _EXTENSIONS:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'!r}; give {_LAYOUT}")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not content.strip():
        raise DataError(f"{path} is empty; remove it or fill it with text")
    if path.suffix.lower() == ".txt":
        return [content]
    texts = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is no JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            raise DataError(f"{path}, line {number} has no text in {column!r}; name the column by text=")
        texts.append(row[column])
    return texts
