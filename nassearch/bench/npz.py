"""Reading arrays from files that come from elsewhere, never as pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import DataError
from search_spaces.errors import did_you_mean


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file.

    Args:
        path: The file.
        names: Arrays that must be there; None returns all there are.

    Raises:
        DataError: The file is missing, no .npz, holds pickled objects, or lacks an array.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is no file")
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds one array without a name; an .npz file with named arrays is needed")
        with opened as file:
            for name in names or ():
                if name not in file.files:
                    near = did_you_mean(name, file.files)
                    raise DataError(f"{path} has no array {name!r}{near}; its arrays: {', '.join(file.files)}")
            return {name: np.asarray(file[name]) for name in (file.files if names is None else names)}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as .npz without pickled objects: {error}") from error


def need_folder(path: Path, files: Sequence[str]) -> None:
    """Check that a folder holds files.

    Raises:
        DataError: It is no folder, or a file is missing.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder that holds {', '.join(files)}")
    missing = [name for name in files if not (path / name).is_file()]
    if missing:
        raise DataError(f"the folder {path} has no {', '.join(missing)}")
