"""Classification of images by the texts of their classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.errors import DataError
from nassearch.tasks.options import IMAGE_OPTIONS, Option, TaskRequest
from nassearch.tasks.pretrained import (
    TOKENIZER_OPTION,
    check_vocabulary,
    fitting_length,
    load_tokenizer,
    text_limits,
)
from nassearch.tasks.registry import register_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nassearch.tasks.base import Task
    from nassearch.tasks.image_task import LabelledImages
    from nassearch.tasks.images import ImageSource

_LENGTH = 77
_OPTIONS = (
    *IMAGE_OPTIONS,
    TOKENIZER_OPTION,
    Option("image", "str", "image", "column of the images' paths, from the file's folder"),
    Option("label", "str", "label", "column of the classes"),
    Option("text", "str", None, "column of the text of each row's class; default: prompt= with the class in it"),
    Option("prompt", "str", "a photo of a {}", "text of a class; {} stands for its name"),
)


def _restore(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    from nassearch.tasks.image_text import ImageTextClassification

    return ImageTextClassification.from_payload(settings, arrays)


@register_task(
    "image-text-classification",
    usage="image-text-classification:FILE_OR_DIR",
    options=_OPTIONS,
    restore=_restore,
)
def build(request: TaskRequest) -> Task:
    """Images against the texts of the classes (CLIP): a .tsv, .csv or .jsonl with paths, or class sub-folders."""
    from nassearch.tasks.image_task import image_arguments
    from nassearch.tasks.image_text import ImageTextClassification
    from nassearch.tasks.imagefolder import existing_folder, read_folder
    from nassearch.tasks.texts import tokenize

    path, prompt = request.path(request.argument), request.options["prompt"]
    if "{}" not in prompt:
        raise DataError(f"prompt={prompt} has no {{}} where the name of the class belongs; write 'a photo of a {{}}'")
    tokenizer = load_tokenizer(request)
    limit, vocabulary = text_limits(request, tokenizer)
    if path.is_file():
        images, given = _read(path, request)
    else:
        images, given = read_folder(existing_folder(path)), {}
    texts = [given.get(name) or prompt.replace("{}", name) for name in images.class_names]
    prompts = tokenize(texts, tokenizer, fitting_length("tokens", None, _LENGTH, limit))
    check_vocabulary(int(prompts.ids.max()), vocabulary)
    arguments = image_arguments(request, images)
    arguments["details"] |= {"texts": texts[:1000]}
    return ImageTextClassification(prompts=prompts, **arguments)


def _read(file: Path, request: TaskRequest) -> tuple[LabelledImages, dict[str, str]]:
    """Return the images that a table lists, and the text of each class where it has a column of them."""
    from nassearch.tasks.image_task import LabelledImages, fit_decoded, number_classes
    from nassearch.tasks.images import FileImages
    from nassearch.tasks.text_files import Columns, read_texts

    options = request.options
    second = {"text": options["text"]} if options["text"] else {}
    rows = read_texts(file, Columns({"image": options["image"], **second}, options["label"])).rows
    given: dict[str, str] = {}
    faults = []
    for number, row in enumerate(rows, start=1):
        if not (file.parent / row[0]).is_file():
            faults.append(f"{file}, row {number}: there is no image {file.parent / row[0]}; paths count from the file")
        if second and given.setdefault(row[-1], row[1]) != row[1]:
            faults.append(
                f"{file}, row {number}: class {row[-1]!r} has the text {row[1]!r}, and {given[row[-1]]!r} before; "
                "give each class one text"
            )
    if faults:
        raise DataError(faults[:20])
    labels = np.array([row[-1] for row in rows])
    classes, _, names = number_classes(labels, labels[:0], str(file))

    def select(used: NDArray[np.int64], size: int | None) -> ImageSource:
        return fit_decoded(FileImages(file.parent, [rows[i][0] for i in used], 0, 0), size)

    return LabelledImages(classes, names, select, 0, str(file)), given
