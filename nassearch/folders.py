"""Which folders a run may take, and who holds one or a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nassearch.errors import ConfigError, RunFolderError
from nassearch.runs import CONFIG_FILE


def check_folder_is_free(folder: Path, overwrite: bool = False) -> None:
    """Check that a run can be written to a folder; nothing is changed.

    Raises:
        ConfigError: It is in the way of a new run, or cannot be made.
    """
    try:
        there = folder.exists()
    except OSError as error:  # a name that is too long
        raise ConfigError(f"--out {folder} cannot be made: {error.strerror}; choose another folder") from error
    if not there:
        above = next(p for p in folder.absolute().parents if p.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            why = "may not be written to" if above.is_dir() else "is a file"
            raise ConfigError(f"--out {folder} cannot be made: {above} {why}; choose another folder")
        return
    if not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; give a folder that does not exist yet")
    is_run = (folder / CONFIG_FILE).is_file()
    if overwrite:
        if not is_run and any(folder.iterdir()):
            raise ConfigError(
                f"--out {folder} holds files and is no run folder, so it is not overwritten; choose another folder"
            )
        if is_run:
            with locked(folder):
                pass
        return
    if is_run:
        raise ConfigError(
            f"--out {folder} holds a run already; go on with it by --resume {folder}, or start anew with --overwrite"
        )
    if any(folder.iterdir()):
        raise ConfigError(f"--out {folder} is not empty and holds no run; choose another folder")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder; the lock goes with the process, however that ends."""
    with _held(folder / ".lock", folder):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold a file by a hidden one beside it, which stays; the lock goes with the process, however that ends."""
    with _held(path.with_name(f".{path.name}.lock"), path):
        yield


def check_file_is_free(path: Path) -> None:
    """Check that no process holds a file; nothing is written.

    Raises:
        RunFolderError: One does.
    """
    if path.with_name(f".{path.name}.lock").exists():
        with locked_file(path):
            pass


@contextmanager
def _held(lock: Path, what: Path) -> Iterator[None]:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunFolderError(f"{what} is in use by another process; wait for it or stop it first") from None
        yield
