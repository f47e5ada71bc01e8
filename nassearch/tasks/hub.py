"""Data sets of the Hugging Face hub, and folders that `datasets` wrote."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from nassearch.errors import DataError

PREFIX = "hf:"
_INSTEAD = "digits, imagefolder:DIR or npz:FILE"


def load_hub(name: str, config: str | None, revision: str | None, instead: str = _INSTEAD) -> dict[str, Any]:
    """Return the parts (train, validation, …) of a data set.

    Args:
        name: Its name on the hub.
        config: Its configuration.
        revision: Commit, tag or branch.
        instead: What to use without network, for messages.

    Raises:
        DataError: It cannot be loaded; the message says why and what to do.
    """
    spec = f"hf:{name}" + (f":{config}" if config else "")
    datasets = _library(spec)
    try:
        # Code in a data set's repository is never run: versions that could are refused.
        loaded = datasets.load_dataset(name, config or None, revision=revision)
    except Exception as error:  # of another library and of the HTTP client below it: all mean no data
        raise DataError(
            f"{spec} could not be loaded: {_reason(error)}. It needs network (or a filled cache) and an existing name, "
            f"as on https://huggingface.co/datasets; without network use {instead}"
        ) from error
    return _parts(spec, loaded)


def is_saved(folder: Path) -> bool:
    """Return whether `save_to_disk` wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def load_saved(folder: Path) -> dict[str, Any]:
    """Return the parts of a folder that `save_to_disk` wrote.

    Raises:
        DataError: It is damaged.
    """
    datasets = _library(str(folder))
    try:
        return _parts(str(folder), datasets.load_from_disk(str(folder)))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} could not be read: {_reason(error)}; write it anew by save_to_disk") from error


def load_parquet(files: dict[str, Path]) -> dict[str, Any]:
    """Return the parts that are in Parquet files.

    Raises:
        DataError: One is damaged.
    """
    named = ", ".join(str(file) for file in files.values())
    datasets = _library(named)
    try:
        return {name: datasets.Dataset.from_parquet(str(file), keep_in_memory=True) for name, file in files.items()}
    except Exception as error:  # pyarrow's errors, wrapped or not
        raise DataError(f"{named} could not be read: {_reason(error)}; give Parquet files") from error


def _library(spec: str) -> Any:
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise DataError(
            f"{spec}: the package 'datasets' is not installed; install it with 'pip install datasets', "
            "or use files of another kind (torchvision:NAME, imagefolder:DIR or npz:FILE; .tsv, .csv or .jsonl)"
        ) from error
    if tuple(int(part) for part in datasets.__version__.split(".")[:2]) < (4, 0):
        raise DataError(
            f"{spec}: 'datasets' {datasets.__version__} may run code of a data set's repository; install "
            "version 4 or later with 'pip install -U datasets'"
        )
    return datasets


def _parts(spec: str, loaded: Any) -> dict[str, Any]:
    parts = dict(loaded.items()) if hasattr(loaded, "items") else {"train": loaded}
    if not parts:
        raise DataError(f"{spec} has no splits; choose another data set or configuration")
    return parts


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
