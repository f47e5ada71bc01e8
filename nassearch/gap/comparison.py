"""Several supernets beside each other: paired differences over the architectures that all reports have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nassearch.errors import ConfigError
from nassearch.gap.folder import GapSettings, find_folder, read_rows, read_settings
from nassearch.gap.report import Report, check_metric, make_report, qualities
from nassearch.gap.sample import LEAST
from nassearch.gap.statistics import Estimate, agreement, estimate, resampled


@dataclass(frozen=True)
class Comparison:
    """Reports of several supernets over the same architectures.

    Attributes:
        metric: The metric.
        names: What to call each: its folder as given.
        reports: Their figures.
        differences: Of each but the first: figure -> its value minus that of the first.
        same_scratch: Whether all stand beside the same results from scratch.
    """

    metric: str
    names: tuple[str, ...]
    reports: tuple[Report, ...]
    differences: tuple[dict[str, Estimate], ...]
    same_scratch: bool

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON data."""
        return {
            "metric": self.metric,
            "architectures": len(self.reports[0].qualities.genotypes),
            "same_scratch": self.same_scratch,
            "reports": [{"name": n, **r.to_json()} for n, r in zip(self.names, self.reports, strict=True)],
            "differences": [
                {"name": n, "minus": self.names[0], **{k: e.to_json() for k, e in d.items()}}
                for n, d in zip(self.names[1:], self.differences, strict=True)
            ],
        }


def compare_gaps(paths: Sequence[str | Path], metric: str | None = None) -> Comparison:
    """Compare supernet-quality reports of one space.

    Args:
        paths: Two or more: their folders, or the folders of runs that have one in ``gap/``.
        metric: A metric of the task. Default: that of the first report.

    Raises:
        ConfigError: Fewer than two, or too few architectures that all have.
        RunFolderError: No such report.
    """
    if len(paths) < 2:
        raise ConfigError(f"--compare needs two or more reports, got {len(paths)}: nassearch gap --compare A B")
    folders = [find_folder(Path(p)) for p in paths]
    settings = [read_settings(f) for f in folders]
    for folder, other in zip(folders[1:], settings[1:], strict=True):
        _check(folders[0], settings[0], folder, other)
    name = check_metric(settings[0], metric)
    all_of = [qualities(s, read_rows(f), name) for f, s in zip(folders, settings, strict=True)]
    shared = [g for g in all_of[0].genotypes if all(g in q.genotypes for q in all_of[1:])]
    if len(shared) < LEAST:
        raise ConfigError(
            f"the reports have {len(shared)} architectures in common, a comparison needs {LEAST}; make them with the "
            "same --seed, the later ones with --from the first"
        )
    all_of = [q.only(shared) for q in all_of]
    counts = resampled(len(shared))
    figures = [agreement(q.inherited, q.scratch, q.direction, counts) for q in all_of]
    return Comparison(
        name,
        tuple(str(p) for p in paths),
        tuple(make_report(q) for q in all_of),
        tuple({k: estimate(f[k] - figures[0][k]) for k in f} for f in figures[1:]),
        all(np.array_equal(q.scratch, all_of[0].scratch) for q in all_of),
    )


def _check(first: Path, mine: GapSettings, folder: Path, other: GapSettings) -> None:
    if mine.space_identity != other.space_identity:
        raise ConfigError(
            f"{first} is of space {mine.space!r} ({mine.space_identity}), {folder} of {other.space!r} "
            f"({other.space_identity}); only supernets of one space have the same architectures to compare"
        )
    if different := mine.differences(other):
        listed = "".join(f"\n  - {line}" for line in different)
        raise ConfigError(
            f"the networks of {first} were made otherwise than those of {folder}, so the reports differ in more than "
            f"their supernets; make one with --from the other:{listed}"
        )
