"""Classification of texts in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.errors import ConfigError, DataError
from nassearch.tasks.options import SMOOTHING_OPTION, Option, TaskRequest
from nassearch.tasks.registry import register_task
from nassearch.tasks.splits import SPLITS, make_splits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nassearch.tasks.base import Task

_LENGTH = 128
_OPTIONS = (
    Option("tokenizer", "str", None, "folder of the model's tokenizer, as save_pretrained writes it"),
    Option("sentence", "str", "sentence", "column of the texts"),
    Option("label", "str", "label", "column of the labels"),
    Option("max_length", "int", _LENGTH, "most tokens of a text; longer ones are cut", minimum=2),
    Option("train", "int", None, "number of training texts", minimum=1),
    Option("calibration", "int", None, "number of texts for statistics of the model", minimum=1),
    Option("search", "int", None, "number of texts the search sees", minimum=1),
    Option("report", "int", None, "number of texts the final report uses", minimum=1),
    SMOOTHING_OPTION,
)


def _restore(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    from nassearch.tasks.texts import TextClassification

    return TextClassification.from_payload(settings, arrays)


@register_task("text-classification", usage="text-classification:FILE_OR_DIR", options=_OPTIONS, restore=_restore)
def build(request: TaskRequest) -> Task:
    """Texts with labels in a .tsv, .csv or .jsonl file, or in train, dev and test files in a folder."""
    from nassearch.tasks.text_files import read_texts
    from nassearch.tasks.texts import TextClassification, tokenize

    options = request.options
    if options["tokenizer"] is None:
        raise ConfigError(f"task {request.name!r} needs the model's tokenizer; add tokenizer=FOLDER")
    path = request.path(request.argument)
    read = read_texts(path, options["sentence"], options["label"])
    names = sorted(set(read.labels), key=lambda n: (not n.isdecimal(), int(n) if n.isdecimal() else 0, n))
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number[name] for name in read.labels], dtype=np.int64)
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
        raise DataError([f"{path}: {fault}" for fault in error.faults]) from None
    used = np.unique(np.concatenate([splits[name] for name in SPLITS]))
    tokens = tokenize([read.texts[i] for i in used], request.path(options["tokenizer"]), options["max_length"])
    return TextClassification(
        name=request.name,
        spec=request.spec,
        tokens=tokens,
        labels=labels[used],
        splits={name: np.searchsorted(used, rows) for name, rows in splits.items()},
        class_names=names,
        seed=request.seed,
        label_smoothing=options["label_smoothing"],
        details={"source": str(path), "max_length": options["max_length"], "cut_texts": tokens.cut},
    )
