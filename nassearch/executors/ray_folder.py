"""The temporary folder of a private Ray cluster, which goes with the process that made it, however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "nassearch-ray-"
_OWNER = ".owner"
# Ray's Unix sockets live in FOLDER/session_DATE_TIME_MICROSECONDS_PID/sockets/plasma_store, and the whole path of a
# socket may have 107 bytes.
_PATH_LIMIT = 107 - len("/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store") - len(f"/{PREFIX}abcdefgh")


class SessionFolder:
    """A folder that is deleted by `remove`, or by the next one to be made if its process was killed before.

    The owner holds a lock on a file in it: the lock ends with the process, whose number might be another's by then.

    Args:
        base: Where it is made. Default: the folder of temporary files, unless its path is too long for Ray.
    """

    def __init__(self, base: Path | None = None) -> None:
        usual = Path(tempfile.gettempdir())
        self.base = base or (usual if len(os.fsencode(usual)) <= _PATH_LIMIT else Path("/tmp"))  # noqa: S108
        remove_abandoned(self.base)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.base))
        # Under its final name only when it is locked: others take a folder with a free lock for an abandoned one.
        new = self.path / f"{_OWNER}.new"
        self._lock = new.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        new.rename(self.path / _OWNER)

    def remove(self) -> None:
        """Delete it with everything in it. Safe to call twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_abandoned(base: Path) -> None:
    """Delete the folders of this user whose process is gone."""
    for owner in base.glob(f"{PREFIX}*/{_OWNER}"):
        try:
            if owner.parent.stat().st_uid != os.getuid():
                continue
            with owner.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(owner.parent, ignore_errors=True)
        except OSError:  # its process is at work, or another one has just deleted it
            continue
