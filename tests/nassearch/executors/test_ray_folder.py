"""Temporary folders of private clusters do not outlive their process for long."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from nassearch.executors.ray_folder import SessionFolder

OWNER = """
import sys
from pathlib import Path
from nassearch.executors.ray_folder import SessionFolder
folder = SessionFolder(Path(sys.argv[1]))
(folder.path / "session").mkdir()
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_folders_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "nassearch-ray-foreign").mkdir()  # nothing says whose it is
    mine = SessionFolder(tmp_path)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    theirs = Path(owner.stdout.readline().strip())
    SessionFolder(tmp_path).remove()
    assert (theirs / "session").is_dir()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert theirs.is_dir()
    other = SessionFolder(tmp_path)
    assert not theirs.exists()
    assert mine.path.is_dir()
    mine.remove()
    mine.remove()
    other.remove()
    assert [p.name for p in tmp_path.iterdir()] == ["nassearch-ray-foreign"]


def test_folder_is_short_enough_for_sockets(tmp_path: Path) -> None:
    folder = SessionFolder()
    socket = f"{folder.path}/session_2026-12-31_23-59-59_123456_4194304/sockets/plasma_store"
    folder.remove()
    assert len(socket.encode()) <= 107
