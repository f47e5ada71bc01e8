"""Loading the pre-trained model of a run, with the head that its task needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.checkpoints import check_shards, load_on_disk
from nassearch.errors import ConfigError
from nassearch.tasks.pretrained import hub_file

if TYPE_CHECKING:
    from torch import nn

    from nassearch.tasks import Task

CONFIG_FILE = "config.json"
_TIMM, _TIMM_HUB = "timm:", "hf-hub:"
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_COUNT_FROM_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
_WAYS = (
    "give a folder that transformers' save_pretrained or timm wrote, timm:NAME, hf-hub:ID (a timm model on the hub), "
    "or the name of a transformers model on the hub"
)


@dataclass(frozen=True)
class Pretrained:
    """A loaded model.

    Attributes:
        module: The model, in eval mode, float32 unless its layers stay on disk.
        notes: What a user should know of it, e.g. that its head is new.
        new_weights: Whether some have learned nothing yet.
    """

    module: nn.Module
    notes: tuple[str, ...] = ()
    new_weights: bool = False


def local_folder(name: str) -> Path | None:
    """Return the folder that a model's name is, or None where it is of another place."""
    path = Path(name.removeprefix(_TIMM)).expanduser()
    return path if path.is_dir() else None


def folder_of(name: str) -> Path | None:
    """Return the folder with the files that come with a model; its image processor, too, if it has one.

    Of a model on the hub it is that of the local cache, to which the processor's files are fetched; None where there
    are none. timm's models have none.
    """
    folder = local_folder(name)
    if folder is not None or name.startswith((_TIMM, _TIMM_HUB)):
        return folder
    found = (hub_file(name, file) for file in _PROCESSOR_FILES)
    return next((path.parent for path in found if path is not None), None)


def load_pretrained(
    name: str, task: Task, *, seed: int, trust_remote_code: bool = False, offload: Path | None = None
) -> Pretrained:
    """Load a model; a head that the checkpoint does not have is drawn from the seed alone.

    Args:
        name: A folder, ``timm:NAME``, ``hf-hub:ID`` or a name on the hub.
        task: Says which head and how many classes.
        seed: Of new weights.
        trust_remote_code: Whether code that comes with the model may run.
        offload: Folder for what of the model is written anew where its layers stay on disk, in the dtype of the
            checkpoint (see `nassearch.checkpoints.load_on_disk`). Default: all of it is in memory, in float32.

    Raises:
        ConfigError: No such model, it cannot be loaded, or its labels are not those of the task.
    """
    import torch

    folder = local_folder(name)
    if folder is None and _is_path(name):
        raise ConfigError(f"--model {name} does not exist; {_WAYS}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith((_TIMM, _TIMM_HUB)) or (folder is not None and "architecture" in _config(folder, name)):
            if offload is not None:
                raise ConfigError(
                    f"--offload is for models of transformers; --model {name} is one of timm, leave it out"
                )
            return _load_timm(name, folder, task)
        return _load_transformers(name, folder, task, trust_remote_code, offload)


def _is_path(name: str) -> bool:
    """Return whether a name can only be that of a folder: names on the hub have one slash at most."""
    plain = name.removeprefix(_TIMM)
    return plain.startswith((".", "/", "~")) or (plain.count("/") > 1 and not name.startswith(_TIMM_HUB))


def _config(folder: Path, name: str) -> dict[str, Any]:
    """Return the configuration in a model's folder.

    Raises:
        ConfigError: There is none, or it is no JSON mapping.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"--model {name} has no {CONFIG_FILE}, so it is no folder of a model; {_WAYS}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model {name}: {path} is damaged ({error}); save the model again") from None
    if not isinstance(data, dict):
        raise ConfigError(f"--model {name}: {path} holds no configuration; save the model again")
    return data


def _classes(task: Task) -> tuple[int | None, list[str]]:
    """Return how many classes a task has, and their names; none where it is no classification."""
    count = task.model_options.get("num_classes")
    names = [str(n) for n in getattr(task, "class_names", [])]
    return (None if count is None else int(count)), names


# -- timm --------------------------------------------------------------------------------------------


def _load_timm(name: str, folder: Path | None, task: Task) -> Pretrained:
    import timm
    import torch

    count, _ = _classes(task)
    if count is None or len(task.input_shape) != 3:
        raise ConfigError(f"--model {name} is a model of images with classes; task {task.spec!r} is no such task")
    kind = f"local-dir:{folder}" if folder else name.removeprefix(_TIMM)
    channels, *size = task.input_shape
    options: dict[str, Any] = {"pretrained": True, "num_classes": count, "in_chans": channels}
    try:
        try:
            model = timm.create_model(kind, img_size=tuple(size), **options)
        except TypeError:  # an architecture of any size
            model = timm.create_model(kind, **options)
    except Exception as error:  # timm, hub clients and file formats raise anything
        raise ConfigError(f"--model {name} cannot be loaded by timm: {_first_line(error)}; {_WAYS}") from error
    head = getattr(model, "pretrained_cfg", {}).get("num_classes")
    notes: tuple[str, ...] = ()
    if head != count:
        notes = (f"the head of {name} has {head} classes, the task {count}: a new one is drawn from the seed",)
    return Pretrained(model.to(torch.float32).eval(), notes, bool(notes))


# -- transformers ------------------------------------------------------------------------------------


def _load_transformers(
    name: str, folder: Path | None, task: Task, trust: bool, offload: Path | None = None
) -> Pretrained:
    import torch
    import transformers

    if task.auto_model is None:
        raise ConfigError(f"task {task.spec!r} does not say which head a pre-trained model needs; choose another task")
    if folder is not None:
        _config(folder, name)
        check_shards(folder, name)
    source = str(folder or name)
    common: dict[str, Any] = {"trust_remote_code": trust, "local_files_only": folder is not None}
    count, names = _classes(task)
    try:
        config = transformers.AutoConfig.from_pretrained(source, **common)
    except Exception as error:  # hub clients, JSON and configuration classes raise anything
        raise ConfigError(f"--model {name} cannot be loaded: {_first_line(error)}; {_WAYS}") from error
    notes: list[str] = []
    if count is not None:
        notes += _head_notes(name, config, count, names)
        if config.num_labels != count or _unnamed(config):
            config.num_labels = count
            config.id2label = dict(enumerate(names or [f"LABEL_{i}" for i in range(count)]))
            config.label2id = {label: i for i, label in config.id2label.items()}
        _set_padding(config, task)
    auto: Any = getattr(transformers, task.auto_model)
    try:
        with _quiet():  # what transformers would say of new weights is among the notes
            if offload is not None:
                model, found = load_on_disk(auto, source, config, offload, **common)
            else:
                model, found = auto.from_pretrained(
                    source,
                    config=config,
                    dtype=torch.float32,  # half precision does not train well without a master copy
                    ignore_mismatched_sizes=True,  # told by `_check_body`: transformers' own report is kept quiet
                    output_loading_info=True,
                    **common,
                )
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"--model {name} cannot be loaded as {task.auto_model}: {_first_line(error)}") from error
    new = _check_body(name, model, found, new_head=count is not None)
    if new:
        notes.append(f"new weights, drawn from the seed: {', '.join(new[:6])}{' …' if len(new) > 6 else ''}")
    return Pretrained(model.eval(), tuple(notes), bool(new))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and reports from the reader."""
    from transformers.utils import logging as library_logging

    logging: Any = library_logging  # untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unnamed(config: Any) -> bool:
    return all(str(label) == f"LABEL_{i}" for i, label in config.id2label.items())


def _set_padding(config: Any, task: Task) -> None:
    """Tell a model which token fills up the task's texts: decoders classify by the last token that is another one.

    Models that count positions from their padding token keep it; they do not look for the last token.
    """
    padding, text = getattr(task, "padding", None), config.get_text_config()
    own = getattr(text, "pad_token_id", None)
    if padding is not None and (own is None or text.model_type not in _COUNT_FROM_PADDING):
        text.pad_token_id = padding


def _head_notes(name: str, config: Any, count: int, names: list[str]) -> list[str]:
    """Return what to tell of the head; refuse the same labels in another order.

    Raises:
        ConfigError: The outputs of the head would be taken for other classes.
    """
    if config.num_labels != count:
        return [
            f"the head of {name} has {config.num_labels} classes, the task {count}: a new one is drawn from the seed"
        ]
    if _unnamed(config) or not names:
        return []
    its = [str(config.id2label[i]) for i in range(count)]
    if [n.lower() for n in its] == [n.lower() for n in names]:
        return []
    if sorted(n.lower() for n in its) == sorted(n.lower() for n in names):
        raise ConfigError(
            f"the labels of --model {name} are {its}, in this order, those of the task {names}: its outputs would be "
            "taken for other classes; change id2label and label2id in the model's config.json together with the rows "
            "of its head, or name the classes of the data in the model's order"
        )
    pairs = ", ".join(f"{a!r} is {b!r}" for a, b in zip(names[:5], its, strict=False))
    return [f"labels of the task by the head of {name}, in order: {pairs}"]


def _check_body(name: str, model: Any, found: dict[str, Any], *, new_head: bool) -> list[str]:
    """Return which weights are new, and refuse a body that does not fit or is not whole.

    A pooler may be new: checkpoints of language models have none. So may a head, where the task needs one of its own.

    Raises:
        ConfigError: Weights of the body are missing, or have other shapes than the configuration says.
    """
    prefix = f"{model.base_model_prefix}."
    wrong = [key[0] if isinstance(key, tuple) else str(key) for key in found.get("mismatched_keys", ())]
    if body := sorted(k for k in wrong if not new_head or k.startswith(prefix)):
        raise ConfigError(
            f"--model {name}: weights do not have the shapes that its {CONFIG_FILE} says: {', '.join(body[:4])} (those "
            "of experts have the wrong shape where the files lack some); save the model again, whole"
        )
    missing = [str(key) for key in found.get("missing_keys", ())]
    if lacks := sorted(k for k in missing if k.startswith(prefix) and "pooler" not in k):
        raise ConfigError(
            f"--model {name} lacks {len(lacks)} weights of its body, which would be random: {', '.join(lacks[:4])}"
            f"{' …' if len(lacks) > 4 else ''}; give a model whose weights were all saved, of the class that its "
            f"{CONFIG_FILE} says"
        )
    return sorted({*wrong, *missing})


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
