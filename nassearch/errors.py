"""Errors a user can act on. The CLI prints them without a traceback: exit 2 for bad input, 1 for failure."""

from __future__ import annotations

from collections.abc import Sequence


class NassearchError(Exception):
    """A message that says what was given, what is allowed and what to do next."""

    exit_code = 1


class ConfigError(NassearchError):
    """Bad input, found before any work. All faults of one configuration come together.

    Args:
        faults: One or several messages.
    """

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        if len(self.faults) == 1:
            super().__init__(self.faults[0])
        else:
            listed = "\n".join(f"  - {f}" for f in self.faults)
            super().__init__(f"{len(self.faults)} things need your attention:\n{listed}")


class DataError(ConfigError):
    """A data set that is missing, empty or unreadable; the message names the file."""


class RunFolderError(ConfigError):
    """A run folder or store that is not ours, damaged, or of another space."""


class EvaluationError(NassearchError):
    """Evaluations failed so often in a row that the run stopped; everything finished is saved."""


class ExportError(NassearchError):
    """An export whose outputs do not equal the subnet's, or that could not be written."""
