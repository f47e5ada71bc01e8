"""Translation of sentences: Multi30k, pairs of text files, data sets of the Hugging Face hub."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.errors import ConfigError, DataError
from nassearch.tasks.options import Option, TaskRequest
from nassearch.tasks.registry import register_task
from nassearch.tasks.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nassearch.tasks.base import Task
    from nassearch.tasks.parallel_texts import ParallelTexts

_USAGE = "translation:multi30k:DIR|SOURCE_FILE:TARGET_FILE|hf:NAME"
_VOCABULARY = 4000
_OPTIONS = (
    Option("source", "str", "de", "language to translate from: the end of its files' names, or its column"),
    Option("target", "str", "en", "language to translate to"),
    Option("vocab_size", "int", None, "tokens of the learnt vocabulary of both languages; default: 4000", minimum=50),
    Option("vocabulary", "str", None, "a sentencepiece model to use instead of learning one"),
    Option("max_length", "int", 100, "most tokens of a sentence; longer ones are cut", minimum=2),
    Option("beam", "int", 5, "hypotheses of the search that BLEU is of; 1 is greedy", minimum=1, maximum=100),
    Option("bleu", "str", "all", "on which splits BLEU is computed", choices=("all", "report", "none")),
    Option("label_smoothing", "float", 0.1, "label smoothing of the training loss", minimum=0, maximum=0.999),
    Option("tokens", "int", None, "most tokens of a training batch, instead of its number of pairs", minimum=1),
    Option("train", "int", None, "number of training pairs", minimum=1),
    Option("calibration", "int", None, "number of pairs for statistics of the model", minimum=1),
    Option("search", "int", None, "number of pairs the search sees", minimum=1),
    Option("report", "int", None, "number of pairs the final report uses", minimum=1),
    Option("cache", "str", None, "folder where tokenised texts are kept; default: ~/.cache/nassearch/translation"),
    Option("revision", "str", None, "commit, tag or branch of a data set of the hub"),
)


def _restore(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    from nassearch.tasks.translations import Translation

    return Translation.from_payload(settings, arrays)


@register_task("translation", usage=_USAGE, options=_OPTIONS, restore=_restore)
def build(request: TaskRequest) -> Task:
    """Sentences and their translations: Multi30k, a pair of text files, or a data set of the Hugging Face hub."""
    from nassearch.tasks.subwords import default_cache, tokenised
    from nassearch.tasks.translations import Translation

    options = request.options
    _check(request)
    texts = _read(request)
    splits = pair_splits(texts, {name: options[name] for name in SPLITS}, request.seed)
    # In the order train, calibration, search, report: what is trained on comes first, and the rest stays small.
    used = np.concatenate([splits["train"], splits["calibration"], splits["search"], splits["report"]])
    bounds = np.cumsum([0, *(len(splits[name]) for name in SPLITS)])
    source, target = [texts.source[i] for i in used], [texts.target[i] for i in used]
    arrays = tokenised(
        source,
        target,
        int(bounds[1]),
        options["vocab_size"] or _VOCABULARY,
        request.path(options["vocabulary"]) if options["vocabulary"] else None,
        request.path(options["cache"]) if options["cache"] else default_cache(),
    )
    lines = "\n".join(" ".join(line.split("\n")) for line in target[bounds[2] :])
    return Translation(
        name=request.name,
        spec=request.spec,
        arrays=arrays,
        references=np.frombuffer(lines.encode("utf-8"), dtype=np.uint8),
        splits={name: np.arange(bounds[i], bounds[i + 1]) for i, name in enumerate(SPLITS)},
        seed=request.seed,
        max_length=options["max_length"],
        label_smoothing=options["label_smoothing"],
        beam=options["beam"],
        bleu=options["bleu"],
        tokens=options["tokens"],
        details={"data": request.argument, "languages": [options["source"], options["target"]]},
    )


def _check(request: TaskRequest) -> None:
    """Refuse options that would do nothing."""
    options, faults = request.options, []
    if options["vocabulary"] is not None and options["vocab_size"] is not None:
        faults.append("vocab_size is of a vocabulary that is learnt, vocabulary= one that is given; leave one out")
    if options["revision"] is not None and not request.argument.startswith("hf:"):
        faults.append("revision is of a data set of the hub; write translation:hf:NAME, or leave it out")
    if faults:
        raise ConfigError([f"task {request.spec!r}: {fault}" for fault in faults])


def _read(request: TaskRequest) -> ParallelTexts:
    from nassearch.tasks.parallel_texts import ParallelTexts, read_folder, read_pair

    kind, _, rest = request.argument.partition(":")
    source, target = request.options["source"], request.options["target"]
    if kind == "multi30k" and rest:
        return read_folder(request.path(rest), source, target)
    if kind == "hf" and rest:
        return _from_hub(replace(request, argument=rest), source, target)
    if kind and rest and ":" not in rest:
        first, second = read_pair(request.path(kind), request.path(rest))
        return ParallelTexts(first, second)
    raise ConfigError(f"task {request.spec!r} names no pairs of sentences; write {_USAGE}")


def _from_hub(request: TaskRequest, source: str, target: str) -> ParallelTexts:
    """Read a data set with a column ``translation`` (a mapping of languages), or a column for each language."""
    from nassearch.tasks.hub import load_hub
    from nassearch.tasks.parallel_texts import ParallelTexts, check_lines

    name, _, config = request.argument.partition(":")
    instead = "translation:SOURCE_FILE:TARGET_FILE"
    loaded, parts = load_hub(name, config or None, request.options["revision"], instead), {}
    names = {"train": ("train",), "search": ("validation", "valid", "val", "dev"), "report": ("test",)}
    for part, known in names.items():
        there = next((n for n in known if n in loaded), None)
        if there is None:
            continue
        table, where = loaded[there], f"hf:{request.argument} ({there})"
        pairs = table["translation"] if "translation" in table.column_names else table
        sides = []
        for language in (source, target):
            try:
                sides.append(["" if (cell := row[language]) is None else str(cell) for row in pairs])
            except (KeyError, TypeError):
                raise DataError(
                    f"{where} has no language {language!r}; its columns: {', '.join(table.column_names)}; choose with "
                    "source= and target="
                ) from None
        check_lines(sides[0], sides[1], (f"{where} {source}", f"{where} {target}"))
        parts[part] = (sides[0], sides[1])
    if "train" not in parts:
        raise DataError(f"hf:{request.argument} has no train split; its splits: {', '.join(loaded)}")
    return ParallelTexts.joined(parts)


def pair_splits(texts: ParallelTexts, given: Mapping[str, int | None], seed: int) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the pairs of each split; validation and test sets are search and report where there are.

    Without them a tenth each, at most 2,000 pairs; calibration is 2 % of the training pairs, at most 500.

    Raises:
        DataError: There are fewer pairs than asked for.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x7A25]))
    total = len(texts.source)
    n_pool = total - texts.n_search - texts.n_report
    own = {
        "search": np.arange(n_pool, n_pool + texts.n_search),
        "report": np.arange(n_pool + texts.n_search, total),
    }
    pool = np.argsort(rng.random(n_pool), kind="stable")
    splits: dict[str, NDArray[np.int64]] = {}
    for name in ("report", "search", "calibration", "train"):
        rows = own.get(name, pool[:0])
        most = {"calibration": 500, "train": len(pool)}.get(name, 2000)
        share = {"calibration": 0.02, "train": 1.0}.get(name, 0.1)
        wanted = given[name]
        if len(rows):
            rows = rows[np.argsort(rng.random(len(rows)), kind="stable")]
            size = len(rows) if wanted is None else wanted
            splits[name], there = rows[:size], len(rows)
        else:
            size = max(1, min(round(len(pool) * share), most)) if wanted is None else wanted
            splits[name], there, pool = pool[:size], len(pool), pool[size:]
        if size > there or not there:
            raise DataError(f"{name}={size} pairs are needed but {there} are left of {total}; add data or give fewer")
    return {name: splits[name] for name in SPLITS}
