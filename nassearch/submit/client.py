"""Submitting a run as a Ray job, following it, and bringing its run folder back."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError, NassearchError, RunFolderError
from nassearch.submit.archive import archive_names, free_place, in_the_way, pack, sha256, unpack
from nassearch.submit.command import MAX_ARCHIVE_BYTES, RemoteCommand, prepare
from nassearch.submit.options import SubmitOptions
from nassearch.submit.server import JobServer, wait_for

Write = Callable[[str], None]
_DESTINATION = "nassearch_destination"
_INTERRUPTED = 130


def print_text(text: str) -> None:
    """Print a piece of a log, which has its own line ends."""
    print(text, end="", flush=True)


def submit(argv: Sequence[str], options: SubmitOptions, out: Write = print_text) -> int:
    """Send a command to a cluster as a job; follow it, and bring its run folder back.

    Args:
        argv: The command after ``nassearch``: ``run …``.
        options: Where and how it is sent.
        out: Takes the text to show: pieces of the job's log, and our own lines.

    Returns:
        The exit code of the command on the cluster; 0 at once when it is not followed, 130 after Ctrl-C, which
        leaves the job running.

    Raises:
        ConfigError: The command means nothing elsewhere, or the cluster cannot be used.
        NassearchError: The job was not taken, or its run folder did not arrive.
    """
    command = prepare(argv, options)
    server = JobServer(options.address)
    with tempfile.TemporaryDirectory(prefix="nassearch-submit-") as folder:
        job_id = server.submit(
            submission_id=options.job_id,
            entrypoint=_entrypoint(command, options),
            runtime_env=_runtime_env(command, options, Path(folder)),
            metadata={_DESTINATION: str(command.destination or "")},
            entrypoint_num_cpus=options.cpus or None,
        )
    out(f"job {job_id} is sent to {server.address}\n")
    if not options.follow:
        out(_how_to_go_on(server.address, job_id))
        return 0
    return _attend(server, job_id, command.destination, out)


def attach(address: str, job_id: str, *, destination: Path | None = None, out: Write = print_text) -> int:
    """Follow a job that was sent before, and bring its run folder back.

    Args:
        address: Address of the job server.
        job_id: Id of the job.
        destination: Where the run folder goes. Default: where it was to go when the job was sent.
        out: Takes the text to show.

    Returns:
        The exit code of the command, or 130 after Ctrl-C.
    """
    server = JobServer(address)
    metadata = server.details(job_id).metadata or {}
    if _DESTINATION not in metadata:
        raise ConfigError(f"job {job_id!r} was not sent by `nassearch submit`; use `ray job logs {job_id}`")
    if destination is None and metadata[_DESTINATION]:
        destination = Path(metadata[_DESTINATION])
    return _attend(server, job_id, destination, out)


def _attend(server: JobServer, job_id: str, destination: Path | None, out: Write) -> int:
    try:
        details = server.follow(job_id, out)
    except KeyboardInterrupt:
        out("\nthe job goes on.\n" + _how_to_go_on(server.address, job_id))
        return _INTERRUPTED
    code = _exit_code(details)
    if code and details.driver_exit_code is None:
        out(f"job {job_id} {str(details.status.value).lower()}: {details.message}\n")
    if destination is not None:
        _bring_back(server, job_id, details, destination, out, required=code == 0)
    return code


def _exit_code(details: Any) -> int:
    if details.status.value == "SUCCEEDED":
        return 0
    return int(details.driver_exit_code or 1)


def _how_to_go_on(address: str, job_id: str) -> str:
    return (
        f"follow it and fetch its run folder: nassearch submit --address {address} --attach {job_id}\n"
        f"stop it:                            ray job stop --address {address} {job_id}\n"
    )


def _entrypoint(command: RemoteCommand, options: SubmitOptions) -> str:
    words = ["python", "-m", "nassearch.submit.job", "--job", options.job_id]
    if command.destination is not None:
        words += ["--folder", command.folder]
    return shlex.join([*words, "--", *command.argv])


def _runtime_env(command: RemoteCommand, options: SubmitOptions, folder: Path) -> dict[str, Any]:
    from nassearch.executors.ray_cluster import package_folders

    # Ray unpacks the archive on every node that runs a part of the job.
    archive = folder / "working_dir.zip"
    pack(command.files, command.base, archive)
    if (size := archive.stat().st_size) > MAX_ARCHIVE_BYTES:
        largest = sorted(command.files, key=lambda file: file.stat().st_size, reverse=True)[:3]
        names = ", ".join(f"{f.relative_to(command.base)} ({f.stat().st_size / 2**20:.0f} MB)" for f in largest)
        raise ConfigError(
            f"the files of this command make {size / 2**20:.0f} MB, a job server takes {MAX_ARCHIVE_BYTES >> 20}; the "
            f"largest are {names}. Put them where all nodes see them and name that folder with --shared-dir"
        )
    env: dict[str, Any] = {"working_dir": str(archive), "env_vars": dict(options.env)}
    if options.send_packages:
        env |= {"py_modules": package_folders(), "excludes": ["__pycache__", "*.pyc"]}
    if options.pip:
        env["pip"] = _requirements(options.pip)
    return env


def _requirements(pip: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for item in pip:
        path = Path(item)
        if path.suffix == ".txt":
            if not path.is_file():
                raise ConfigError(f"--pip {item}: there is no such file of requirements")
            text = path.read_text(encoding="utf-8").splitlines()
            lines += [line.strip() for line in text if line.strip() and not line.lstrip().startswith("#")]
        else:
            lines.append(item)
    return lines


def _bring_back(server: JobServer, job_id: str, details: Any, destination: Path, out: Write, *, required: bool) -> None:
    archive_name, note_name = archive_names(job_id)
    node = details.driver_node_id
    note = wait_for(lambda: server.fetch(node, note_name), 20.0 if required else 3.0) if node else None
    again = f"`nassearch submit --address {server.address} --attach {job_id}` tries again"
    if note is None:
        if required:
            raise NassearchError(f"job {job_id} is done, but its run folder is not to be had; {again}")
        out("no run folder came back\n")
        return
    facts = json.loads(note)
    if not facts["bytes"]:
        out("the command wrote no run folder\n")
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".nassearch-fetch-", dir=destination.parent) as folder:
        archive = Path(folder) / "run.zip"
        try:
            server.fetch(node, archive_name, archive)
        except OSError as error:
            raise NassearchError(f"the run folder did not arrive: {error}; {again}") from error
        if sha256(archive) != facts["sha256"]:
            raise RunFolderError(f"the run folder arrived damaged; {again}")
        place = free_place(destination, job_id)
        unpack(archive, place)
    if place != destination:
        out(f"{destination} {in_the_way(destination)}: it is left alone\n")
    out(f"run folder: {place}\n")
