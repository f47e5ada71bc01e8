"""What runs on the cluster: ``python -m nassearch.submit.job --job ID --folder DIR -- run …``.

It runs the command, then puts the run folder, zipped, beside the job's log. The job server hands out files in
that place over HTTP, so that the machine that submitted the job needs no other way into the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from nassearch.submit.archive import archive_names, files_below, pack, sha256


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and leave its run folder where the job server finds it; return the command's exit code."""
    parser = argparse.ArgumentParser(prog="python -m nassearch.submit.job")
    parser.add_argument("--job", required=True, help="id of the job")
    parser.add_argument("--folder", help="run folder to bring back; none on a shared file system")
    parser.add_argument("command", nargs="+", help="words after `nassearch`")
    arguments = parser.parse_args(argv)
    code = _run(arguments.command)
    if arguments.folder:
        leave(Path(arguments.folder), arguments.job, logs_folder())
    return code


def _run(command: Sequence[str]) -> int:
    child = subprocess.Popen([sys.executable, "-m", "nassearch", *command])

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    # A stopped job brings back what it has: the command ends first, in its own way.
    signal.signal(signal.SIGTERM, forward)
    code = child.wait()
    return code if code >= 0 else 128 - code


def logs_folder() -> Path:
    """Return the folder of Ray's logs on this node, which the job server gives access to."""
    import logging

    import ray
    from ray._private import worker

    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=logging.ERROR)
    try:
        node: Any = worker._global_node
        return Path(node.get_logs_dir_path())
    finally:
        ray.shutdown()


def leave(folder: Path, job_id: str, logs: Path) -> None:
    """Zip a run folder into the folder of logs; the note is written last, when the archive is complete.

    Args:
        folder: The run folder; an archive of nothing is noted as such.
        job_id: Id of the job.
        logs: Ray's folder of logs.
    """
    archive, note = (logs / name for name in archive_names(job_id))
    archive.parent.mkdir(parents=True, exist_ok=True)
    facts: dict[str, object] = {"bytes": 0}
    if folder.is_dir():
        pack(files_below(folder), folder, archive)
        facts = {"bytes": archive.stat().st_size, "sha256": sha256(archive)}
    part = note.with_suffix(".part")
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.rename(note)


if __name__ == "__main__":
    sys.exit(main())
