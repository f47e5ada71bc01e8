"""Causal language models on text files or data sets of the hub."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from nassearch.tasks.base import Task
    from nassearch.tasks.token_blocks import Stream

_BLOCK = 256
_SHARES = {"calibration": 0.05, "search": 0.1, "report": 0.1}
_MOST = {"calibration": 256, "search": 1_000, "report": 5_000}
_OPTIONS = (
    TOKENIZER_OPTION,
    Option("block", "int", None, f"tokens of a block; default: {_BLOCK}, or the model's limit", minimum=2),
    Option("text", "str", "text", "column of the texts, in .jsonl files and data sets of the hub"),
    Option(
        "domains",
        "str",
        "none",
        "what of a folder is a domain of its own, with metrics nll.NAME; numbers of blocks are divided evenly",
        choices=("none", "files", "folders"),
    ),
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
    from nassearch.tasks.text_sources import documents
    from nassearch.tasks.token_blocks import tokenise

    options = request.options
    tokenizer = load_tokenizer(request)
    limit, vocabulary = text_limits(request, tokenizer)
    block = fitting_length("block", options["block"], _BLOCK, limit)
    origin, domains = documents(request)
    parts: dict[str, dict[str, NDArray[np.int32]]] = {}
    streams: dict[str, dict[str, Stream]] = {}
    for domain, found in domains.items():
        where = f"{origin}/{domain}" if domain else origin
        streams[domain] = {
            name: tokenise(f"{where} ({name})", texts, tokenizer, options["separator"] == "eos", options["cache"])
            for name, texts in found.items()
        }
        each = {name: None if (n := options[name]) is None else max(1, n // len(domains)) for name in SPLITS}
        parts[domain] = _divide(where, streams[domain], block, each)
    blocks, members = _joined(parts)
    check_vocabulary(max(int(part.max()) for part in blocks.values()), vocabulary)
    return LanguageModelling(
        name=request.name,
        spec=request.spec,
        blocks=blocks,
        bytes_per_token={name: _bytes_per_token(name, parts, streams) for name in SPLITS},
        vocabulary=max(len(tokenizer), vocabulary or 0),
        seed=request.seed,
        details={"source": origin, "separator": options["separator"]},
        domains=[d for d in domains if d],
        members=members if len(domains) > 1 else None,
    )


def _joined(
    parts: Mapping[str, Mapping[str, NDArray[np.int32]]],
) -> tuple[dict[str, NDArray[np.int32]], dict[str, NDArray[np.int16]]]:
    """Return the blocks of each split, and the number of each block's domain; domains take turns."""
    import numpy as np

    blocks, members = {}, {}
    for split in SPLITS:
        own = [part[split] for part in parts.values()]
        turn = np.concatenate([np.arange(len(b)) / len(b) for b in own])
        order = np.argsort(turn, kind="stable")
        blocks[split] = np.concatenate(own)[order]
        members[split] = np.repeat(np.arange(len(own), dtype=np.int16), [len(b) for b in own])[order]
    return blocks, members


def _bytes_per_token(
    split: str, parts: Mapping[str, Mapping[str, NDArray[np.int32]]], streams: Mapping[str, Mapping[str, Stream]]
) -> float:
    """Return the mean bytes of a token of a split, over all domains by their number of blocks."""
    n = {domain: len(part[split]) for domain, part in parts.items()}
    of = {domain: own.get(split, own["train"]).bytes_per_token for domain, own in streams.items()}
    if len(of) == 1:  # as it is, not rounded: fingerprints depend on it
        return next(iter(of.values()))
    return sum(n[d] * of[d] for d in n) / sum(n.values())


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
