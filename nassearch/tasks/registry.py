"""Tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ConfigError
from nassearch.tasks.options import Option, TaskRequest, parse_options, split_options
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nassearch.tasks.base import Task

TaskBuilder = Callable[[TaskRequest], "Task"]
TaskRestorer = Callable[[Mapping[str, Any], "Mapping[str, NDArray[Any]]"], "Task"]

_BUILT_IN = (
    "digits",
    "imagefolder",
    "cifar10",
    "npz",
    "torchvision_sets",
    "huggingface",
    "text_classification",
    "causal_lm",
    "image_text_classification",
    "translation",
)


@dataclass(frozen=True)
class TaskEntry:
    """A registered task.

    Attributes:
        name: The name users give first.
        usage: How to write it, e.g. ``"imagefolder:DIR"``.
        summary: One line on what it is.
        options: Its options.
        build: Makes the task of a request.
        restore: Makes the task from what its ``to_payload`` returned.
    """

    name: str
    usage: str
    summary: str
    options: tuple[Option, ...]
    build: TaskBuilder
    restore: TaskRestorer


_REGISTRY: dict[str, TaskEntry] = {}


def register_task(
    prefix: str,
    *,
    usage: str = "",
    summary: str = "",
    options: Sequence[Option] = (),
    restore: TaskRestorer | None = None,
) -> Callable[[TaskBuilder], TaskBuilder]:
    """Register a function that builds a task under a name.

    Args:
        prefix: The name users give, before any ``:``.
        usage: How to write it. Default: ``prefix``.
        summary: One line for listings. Default: the first line of the function's docstring.
        options: The options users may give.
        restore: Makes the task from its payload. Default: that of `ImageClassification`.

    Raises:
        ConfigError: The name is taken, or is not a word.
    """

    def register(build: TaskBuilder) -> TaskBuilder:
        if not prefix.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"a task cannot be named {prefix!r}; use letters, digits, '-' and '_'")
        if prefix in _REGISTRY:
            raise ConfigError(f"a task named {prefix!r} is registered already; choose another name")
        first_line = "".join((build.__doc__ or "").strip().splitlines()[:1])
        _REGISTRY[prefix] = TaskEntry(
            prefix, usage or prefix, summary or first_line, tuple(options), build, restore or _restore_images
        )
        return build

    return register


def _restore_images(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    from nassearch.tasks.classification import ImageClassification

    return ImageClassification.from_payload(settings, arrays)


def _load_built_in() -> None:
    for module in _BUILT_IN:
        import_module(f"nassearch.tasks.{module}")


def list_tasks() -> list[TaskEntry]:
    """Return the registered tasks, sorted by name."""
    _load_built_in()
    return [_REGISTRY[name] for name in sorted(_REGISTRY)]


def make_task(
    spec: str,
    *,
    seed: int = 0,
    base: Path | None = None,
    model: str | None = None,
    trust_remote_code: bool = False,
) -> Task:
    """Build the task that a specification names.

    Args:
        spec: ``NAME[:ARGUMENT][,key=value…]``, e.g. ``"digits"``, ``"digits:train=600,noise=0.3"`` or
            ``"imagefolder:/data/photos,image_size=64"``.
        seed: Seed of the splits and of everything drawn once.
        base: Where relative paths count from if they lead nowhere here, see `TaskRequest.path`.
        model: The pre-trained model of the run, for tasks that need its tokenizer, see `TaskRequest.model`.
        trust_remote_code: Whether code that comes with a tokenizer may run.

    Raises:
        ConfigError: An unknown task (the nearest name is suggested) or bad options, all together.
        DataError: The data are missing, empty, unreadable or too few.
    """
    entry, request = _request(spec, seed, base, model, trust_remote_code)
    return entry.build(request)


def tokenizer_of(
    spec: str, *, base: Path | None = None, model: str | None = None, trust_remote_code: bool = False
) -> Any:
    """Return the tokenizer of transformers that a task reads its texts with; None where it has none.

    Args:
        spec: As in `make_task`.
        base: Likewise.
        model: Likewise.
        trust_remote_code: Likewise.

    Raises:
        ConfigError: As in `make_task`.
        DataError: The tokenizer cannot be loaded.
    """
    from nassearch.tasks.pretrained import TOKENIZER_OPTION, load_tokenizer

    _, request = _request(spec, 0, base, model, trust_remote_code)
    return load_tokenizer(request) if TOKENIZER_OPTION.name in request.options else None


def _request(
    spec: str, seed: int, base: Path | None, model: str | None, trust_remote_code: bool
) -> tuple[TaskEntry, TaskRequest]:
    _load_built_in()
    name, _, rest = spec.strip().partition(":")
    if name not in _REGISTRY:
        usages = ", ".join(entry.usage for entry in list_tasks())
        raise ConfigError(f"unknown task {name!r}{did_you_mean(name, _REGISTRY)}; available: {usages}")
    entry = _REGISTRY[name]
    argument, texts = split_options(rest)
    options = parse_options(name, texts, entry.options)
    if argument and ":" not in entry.usage:
        raise ConfigError(
            f"task {name!r} takes options only, as in '{name}:key=value', not {argument!r}; "
            f"its options: {', '.join(option.name for option in entry.options)}"
        )
    if not argument and ":" in entry.usage:
        raise ConfigError(f"task {name!r} needs to know which data; write {entry.usage}")
    return entry, TaskRequest(spec.strip(), name, argument, options, seed, base, model, trust_remote_code)


def from_payload(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
    """Make the task from what its ``to_payload`` returned, in this or another process.

    Raises:
        ConfigError: No task of that name is registered here.
    """
    _load_built_in()
    name = str(settings.get("task"))
    if name not in _REGISTRY:
        raise ConfigError(f"the payload is of task {name!r}, which is not registered in this process; import it first")
    return _REGISTRY[name].restore(settings, arrays)
