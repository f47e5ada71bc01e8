"""Classification of texts and of pairs of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.errors import ConfigError, DataError
from nassearch.tasks.options import SMOOTHING_OPTION, Option, TaskRequest
from nassearch.tasks.pretrained import (
    TOKENIZER_OPTION,
    check_vocabulary,
    fitting_length,
    load_tokenizer,
    read_json,
    text_limits,
)
from nassearch.tasks.registry import register_task
from nassearch.tasks.splits import SPLITS, make_splits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nassearch.tasks.base import Task
    from nassearch.tasks.text_files import LabelledTexts

_LENGTH = 128
_OPTIONS = (
    TOKENIZER_OPTION,
    Option("sentence", "str", None, "column of the texts; default: sentence"),
    Option("sentence2", "str", None, "column of the second text of each pair"),
    Option("label", "str", "label", "column of the labels"),
    Option("max_length", "int", None, f"most tokens of a text or pair, the rest is cut; default: {_LENGTH}", minimum=2),
    Option("revision", "str", None, "commit, tag or branch of a data set of the hub"),
    Option("train", "int", None, "number of training texts", minimum=1),
    Option("calibration", "int", None, "number of texts for statistics of the model", minimum=1),
    Option("search", "int", None, "number of texts the search sees", minimum=1),
    Option("report", "int", None, "number of texts the final report uses", minimum=1),
    SMOOTHING_OPTION,
)
_USAGE = "text-classification:FILE_OR_DIR|hf:NAME[:CONFIG]|GLUE_NAME"


def _restore(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    from nassearch.tasks.texts import TextClassification

    return TextClassification.from_payload(settings, arrays)


@register_task("text-classification", usage=_USAGE, options=_OPTIONS, restore=_restore)
def build(request: TaskRequest) -> Task:
    """Texts or pairs with labels: .tsv, .csv, .jsonl or .parquet files, a data set of the hub, or a task of GLUE."""
    from nassearch.tasks.texts import TextClassification, tokenize

    options = request.options
    tokenizer = load_tokenizer(request)
    limit, vocabulary = text_limits(request, tokenizer)
    max_length = fitting_length("max_length", options["max_length"], _LENGTH, limit)
    origin, read = _read(request)
    given = [row[-1] for row in read.rows]
    names = read.names or sorted(set(given), key=lambda n: (not n.isdecimal(), int(n) if n.isdecimal() else 0, n))
    names = _order_of_model(request, names)
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number[name] for name in given], dtype=np.int64)
    try:
        splits = make_splits(
            labels,
            names,
            {name: options[name] for name in SPLITS},
            n_test=read.n_test,
            n_search=read.n_search,
            seed=request.seed,
            items="texts",
        )
    except DataError as error:
        raise DataError([f"{origin}: {fault}" for fault in error.faults]) from None
    used = np.unique(np.concatenate([splits[name] for name in SPLITS]))
    pairs = [read.rows[i][1] for i in used] if len(read.rows[0]) == 3 else None
    tokens = tokenize([read.rows[i][0] for i in used], tokenizer, max_length, pairs)
    check_vocabulary(int(tokens.ids.max()), vocabulary)
    return TextClassification(
        name=request.name,
        spec=request.spec,
        tokens=tokens,
        labels=labels[used],
        splits={name: np.searchsorted(used, rows) for name, rows in splits.items()},
        class_names=names,
        seed=request.seed,
        label_smoothing=options["label_smoothing"],
        details={"source": origin, "max_length": max_length, "cut_texts": tokens.cut, **read.details},
    )


def _read(request: TaskRequest) -> tuple[str, LabelledTexts]:
    """Return what to call the source, and its texts."""
    from nassearch.tasks.glue import HUB_NAME, glue_columns
    from nassearch.tasks.hub import PREFIX, load_hub
    from nassearch.tasks.text_files import Columns, from_parts, read_texts

    options, argument = request.options, request.argument
    second = {} if options["sentence2"] is None else {"sentence2": options["sentence2"]}
    columns = Columns({"sentence": options["sentence"] or "sentence", **second}, options["label"])
    instead = "files: text-classification:FILE_OR_DIR"
    if argument.startswith(PREFIX):
        name, _, config = argument.removeprefix(PREFIX).partition(":")
        return argument, from_parts(argument, load_hub(name, config, options["revision"], instead), columns)
    path = request.path(argument)
    texts = None if path.exists() else glue_columns(argument)
    if texts is None:
        return str(path), read_texts(path, columns)
    if options["sentence"] or second or options["label"] != "label":
        raise ConfigError(f"the columns of GLUE's {argument} are known; leave out sentence=, sentence2= and label=")
    columns = Columns(dict(zip(("sentence", "sentence2"), texts, strict=False)), "label")
    origin = f"{PREFIX}{HUB_NAME}:{argument}"
    return origin, from_parts(origin, load_hub(HUB_NAME, argument, options["revision"], instead), columns)


def _order_of_model(request: TaskRequest, names: list[str]) -> list[str]:
    """Return the classes in the order of the model's head, where it names the same ones."""
    stated = (read_json(request, "config.json") or {}).get("id2label") or {}
    try:
        theirs = [str(stated[key]) for key in sorted(stated, key=int)]
    except ValueError:
        return names
    place = {name.lower(): i for i, name in enumerate(theirs)}
    if len(place) != len(names) or {name.lower() for name in names} != set(place):
        return names
    return sorted(names, key=lambda name: place[name.lower()])
