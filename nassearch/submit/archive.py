"""Zip archives of run folders and working directories."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from nassearch.errors import RunFolderError

EXCLUDED = frozenset(
    {".git", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
)
STORE = "evaluations.sqlite"


def archive_names(job_id: str) -> tuple[str, str]:
    """Return the names of a job's archive and of the note about it, relative to Ray's folder of logs."""
    return f"nassearch/{job_id}/run.zip", f"nassearch/{job_id}/run.json"


def files_below(path: Path, *, run_folders: bool = True) -> Iterator[Path]:
    """Yield the regular files of a folder (or the file itself), without caches and without symbolic links out of it.

    Args:
        path: A folder or file.
        run_folders: Whether to enter folders of runs.
    """
    if path.is_file():
        yield path
        return
    root = path.resolve()
    for folder, folders, files in os.walk(path):
        if not run_folders and STORE in files:
            folders.clear()
            continue
        folders[:] = sorted(f for f in folders if f not in EXCLUDED)
        for name in sorted(files):
            file = Path(folder) / name
            if file.is_file() and file.resolve().is_relative_to(root):
                yield file


def pack(files: Iterable[Path], base: Path, target: Path) -> None:
    """Write files into a zip archive under their paths relative to ``base``, always in the same way.

    Equal files give equal bytes, so that a cluster that has the archive already is not sent it again.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for file in sorted(set(files)):
            name = file.relative_to(base).as_posix()
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (stat.S_IMODE(file.stat().st_mode) & 0o755)) << 16
            info.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(info, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def in_the_way(folder: Path) -> str | None:
    """Return why a folder must not be replaced by a run folder; None where nothing is, or an empty folder or a run.

    Args:
        folder: A path that may lead nowhere.
    """
    from nassearch.folders import locked
    from nassearch.runs import CONFIG_FILE
    from nassearch.store import stored_space

    if not folder.exists() and not folder.is_symlink():
        return None
    if folder.is_symlink() or not folder.is_dir():
        return "is no folder"
    if not any(folder.iterdir()):
        return None
    if not (folder / CONFIG_FILE).is_file():
        return "holds files and is no run folder"
    try:
        stored_space(folder / STORE)
    except RunFolderError:
        return "holds files and is no run folder"
    try:
        with locked(folder):
            return None
    except RunFolderError:
        return "is in use by another process"


def free_place(folder: Path, job_id: str) -> Path:
    """Return where a run folder can be put: the folder, or one beside it where that would destroy something else."""
    place, number = folder, 1
    while in_the_way(place):
        place = folder.with_name(f"{folder.name}-{job_id}" + (f"-{number}" if number > 1 else ""))
        number += 1
    return place


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder; an empty folder or a run folder is replaced as a whole.

    Raises:
        RunFolderError: The archive is damaged, a name in it leads out of the folder, or something is in the way.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
        incoming = Path(aside) / "incoming"
        incoming.mkdir()
        try:
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    _extract(zipped, info, incoming)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise RunFolderError(
                f"the archive of the run cannot be unpacked into {folder}: {error}; fetch it again"
            ) from error
        if why := in_the_way(folder):
            raise RunFolderError(f"{folder} {why}, so it is not replaced; fetch the run into another folder")
        if folder.exists():
            folder.rename(Path(aside) / "previous")
        incoming.rename(folder)


def _extract(zipped: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    name = PurePosixPath(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    strange = name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename
    if strange or kind not in (0, stat.S_IFREG, stat.S_IFDIR) or not name.parts:
        raise RunFolderError(
            f"the archive of the run has the entry {info.filename!r}, which is no plain file inside its folder; "
            "nothing was unpacked. Only fetch runs from clusters that you trust"
        )
    target = folder.joinpath(*name.parts)
    if info.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(info) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
