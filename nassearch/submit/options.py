"""Options of a submission."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


def new_job_id() -> str:
    """Return a fresh id for a job."""
    return f"nassearch-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class SubmitOptions:
    """How a command is sent to a cluster.

    Attributes:
        address: Address of the job server, ``http://HOST:8265``.
        working_dir: Folder that is sent whole and is the job's working directory. Default: the current folder is
            meant, and only the files that the command names are sent.
        pip: Packages to install on the cluster, as for ``pip install``; or one file of requirements.
        env: Environment variables of the job.
        shared_dirs: Folders that every node of the cluster sees under the same path: nothing below them is sent
            or brought back.
        send_packages: Send our four packages too, so that the cluster runs this version of them.
        follow: Follow the log, wait for the end and bring the run folder back.
        job_id: Id of the job.
        cpus: Cores that the command itself reserves, beside those of its workers.
    """

    address: str
    working_dir: Path | None = None
    pip: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    shared_dirs: tuple[Path, ...] = ()
    send_packages: bool = True
    follow: bool = True
    job_id: str = field(default_factory=new_job_id)
    cpus: float = 0.0
