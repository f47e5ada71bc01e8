"""Task specifications: ``NAME[:ARGUMENT][,key=value…]``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from nassearch.errors import ConfigError
from search_spaces.errors import did_you_mean

_NEXT_OPTION = re.compile(r"(?:^|[,:])(?=[a-z_][a-z0-9_]*=)")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Option:
    """One option of a task.

    Attributes:
        name: The key users write.
        kind: Type of the value.
        default: Value when the option is not given; None where the task chooses.
        help: One line: what it does, with units.
        minimum: Least allowed number.
        maximum: Greatest allowed number.
        choices: The allowed words, where only some are.
    """

    name: str
    kind: Literal["int", "float", "bool", "str"]
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """Turn what the user wrote into a value.

        Raises:
            ValueError: It is not allowed; the message says what is.
        """
        given = f"option {self.name}={text}"
        if self.kind == "str":
            if self.choices and text not in self.choices:
                raise ValueError(f"{given}: allowed are {', '.join(self.choices)}{did_you_mean(text, self.choices)}")
            if not text:
                raise ValueError(f"{given}: a value is missing")
            return text
        if self.kind == "bool":
            if text.lower() not in _WORDS:
                raise ValueError(f"{given}: allowed are true and false")
            return _WORDS[text.lower()]
        return self._number(text, given)

    def _number(self, text: str, given: str) -> int | float:
        try:
            value = int(text) if self.kind == "int" else float(text)
        except ValueError:
            what = "a whole number" if self.kind == "int" else "a number"
            raise ValueError(f"{given}: {what} is needed") from None
        # The negated form also refuses NaN.
        if self.minimum is not None and not value >= self.minimum:
            raise ValueError(f"{given}: at least {self.minimum:g} is needed")
        if self.maximum is not None and not value <= self.maximum:
            raise ValueError(f"{given}: at most {self.maximum:g} is allowed")
        return value


@dataclass(frozen=True)
class TaskRequest:
    """What a user asked for, parsed: given to the function that builds the task.

    Attributes:
        spec: The specification as written.
        name: The task's registered name.
        argument: What stands between the name and the options, e.g. a folder; may be empty.
        options: Every option of the task: as given, else its default.
        seed: Seed of the splits and of everything drawn once.
        base: Where relative paths count from if they lead nowhere here: the folder a run was started in.
        model: The pre-trained model of the run, a folder or hub id: where its tokenizer or image processor is.
        trust_remote_code: Whether code that comes with a tokenizer may run.
    """

    spec: str
    name: str
    argument: str
    options: Mapping[str, Any]
    seed: int
    base: Path | None = None
    model: str | None = None
    trust_remote_code: bool = False

    def path(self, text: str) -> Path:
        """Return a path of the specification, with ``~`` spelt out and ``base`` tried where it is not here."""
        path = Path(text).expanduser()
        if self.base is not None and not path.is_absolute() and not path.exists() and (self.base / path).exists():
            return self.base / path
        return path


def split_options(rest: str) -> tuple[str, list[str]]:
    """Split what follows ``NAME:`` into the argument and the ``key=value`` texts.

    >>> split_options("/data/photos,train=600,noise=0.6")
    ('/data/photos', ['train=600', 'noise=0.6'])
    """
    starts = [match.start() for match in _NEXT_OPTION.finditer(rest)]
    if not starts:
        return rest, []
    bounds = [*starts, len(rest)]
    texts = [rest[a:b].lstrip(",:") for a, b in pairwise(bounds)]
    return rest[: starts[0]], texts


def parse_options(task: str, texts: Sequence[str], allowed: Sequence[Option]) -> dict[str, Any]:
    """Return the value of every option of a task.

    Args:
        task: Name of the task, for messages.
        texts: ``key=value`` texts.
        allowed: The task's options.

    Raises:
        ConfigError: Unknown or repeated options or values that are not allowed; all faults together.
    """
    by_name = {option.name: option for option in allowed}
    values: dict[str, Any] = {}
    faults = []
    for text in texts:
        key, _, value = text.partition("=")
        if key not in by_name:
            known = ", ".join(by_name) or "none"
            faults.append(f"task {task!r} has no option {key!r}{did_you_mean(key, by_name)}; its options: {known}")
        elif key in values:
            faults.append(f"task {task!r}: option {key!r} is given twice; give it once")
        else:
            values[key] = None
            try:
                values[key] = by_name[key].parse(value.strip())
            except ValueError as error:
                faults.append(f"task {task!r}: {error}")
    if faults:
        raise ConfigError(faults)
    return {option.name: values.get(option.name, option.default) for option in allowed}


SPLIT_OPTIONS = (
    Option("train", "int", None, "number of training images", minimum=1),
    Option("calibration", "int", None, "number of images for normalisation statistics", minimum=1),
    Option("search", "int", None, "number of images the search sees", minimum=1),
    Option("report", "int", None, "number of images the final report uses", minimum=1),
)
"""Sizes of the four splits."""

SMOOTHING_OPTION = Option(
    "label_smoothing", "float", 0.0, "label smoothing of the training loss", minimum=0, maximum=0.999
)

IMAGE_OPTIONS = (
    *SPLIT_OPTIONS,
    Option(
        "image_size",
        "int",
        None,
        "width and height in pixels; default: the images' own, at most 224",
        minimum=8,
        maximum=4096,
    ),
    Option(
        "shift", "int", None, "greatest random shift in training, pixels; default: an eighth of the size", minimum=0
    ),
    Option("flip", "bool", True, "mirror training images at random"),
    SMOOTHING_OPTION,
    Option("transport", "str", "object", "how remote workers get the images", choices=("object", "path")),
)
"""Options of every task that reads the user's images."""
