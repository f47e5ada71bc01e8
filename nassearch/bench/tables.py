"""Tables: measured or modelled figures of networks that can be looked up instead of evaluated."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.errors import DataError
from nassearch.objectives import Objective
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys, unique_rows

Values = NDArray[np.float64]

MISSING = ("nearest", "failed")
_CHUNK = 2048  # proposals compared with all rows at a time: bounds the memory of the distances
_STEPS = 64  # features in whole steps, so that distances are exact and ties do not depend on rounding


@dataclass(frozen=True)
class KnownFront:
    """What is known beforehand of the best values of a table.

    Attributes:
        values: float64 ``[k, m]`` of the best front known, in the objectives' own units.
        ideal: float64 ``[m]``: the value that is scaled to the best.
        nadir: float64 ``[m]``: the value that is scaled to the worst, the reference of the hypervolume.
    """

    values: Values
    ideal: Values
    nadir: Values


class Table(ABC):
    """Figures of networks, by metric.

    Attributes:
        name: Short name for tables and file names.
        space: The search space.
        metrics: Names of the metrics.
        analytic: Those among them that a strategy may compute for any network instead of predicting them.
        objectives: What is optimised unless the user says otherwise.
        constraints: Limits unless the user says otherwise.
        report: Objective's metric -> metric by which the chosen networks are judged, where that is another one.
    """

    name: str
    space: SearchSpace
    metrics: tuple[str, ...]
    analytic: frozenset[str] = frozenset()
    objectives: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    report: Mapping[str, str] = {}

    @abstractmethod
    def evaluate(self, G: Rows, metrics: Collection[str]) -> dict[str, Values]:
        """Return metrics of canonical rows ``[n, n_genes]``, name -> float64 ``[n]``; NaN is a failure."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of everything that decides the figures."""

    def networks(self, G: Rows) -> Sequence[Hashable]:
        """Return what identifies the network behind each canonical row: equal where the figures are the same ones."""
        return row_keys(G)

    def all_rows(self) -> Rows | None:
        """Return a row for every network of the table, or None where they are too many."""
        return None

    def known_front(self, objectives: Sequence[Objective]) -> KnownFront | None:
        """Return the best front known for objectives, or None where none is; asked only if `all_rows` is None."""
        return None


class RowTable(Table):
    """A table that lists its networks one by one.

    Args:
        name: Its name.
        space: The search space.
        rows: int ``[N, n_genes]``; canonical forms must differ.
        metrics: Metric -> float ``[N]``; NaN marks failed evaluations.
        objectives: What is optimised.
        constraints: Limits.
        analytic: Metrics that may be computed.
        report: Objective's metric -> metric it is judged by.
        missing: What becomes of networks of the space that are not listed: ``"nearest"`` gives them the figures of
            the listed network whose features are nearest (and counts both as one network), ``"failed"`` NaN. None:
            there are none.
        network: int ``[N]``, equal for rows that are one network. Default: every row is one.

    Raises:
        DataError: The arrays do not fit together, a row repeats, or rows are missing and ``missing`` is None.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        rows: NDArray[np.integer],
        metrics: Mapping[str, ArrayLike],
        *,
        objectives: Sequence[str],
        constraints: Sequence[str] = (),
        analytic: Sequence[str] = (),
        report: Mapping[str, str] | None = None,
        missing: str | None = None,
        network: NDArray[np.integer] | None = None,
    ) -> None:
        self.name, self.space, self.metrics = name, space, tuple(metrics)
        self.objectives, self.constraints = tuple(objectives), tuple(constraints)
        self.analytic, self.report = frozenset(analytic), dict(report or {})
        self._rows = space.canonical(rows)
        self._columns = {m: np.asarray(v, dtype=np.float64) for m, v in metrics.items()}
        self._network = np.arange(len(self._rows)) if network is None else np.asarray(network, dtype=np.int64)
        self._missing = missing
        self._check()
        self._at = {key: i for i, key in enumerate(row_keys(self._rows))}

    def _check(self) -> None:
        n = len(self._rows)
        if not n:
            raise DataError(f"table {self.name!r} lists no network")
        for metric, column in self._columns.items():
            if column.shape != (n,):
                raise DataError(
                    f"table {self.name!r}: metric {metric!r} has shape {list(column.shape)}; with {n} genotypes it "
                    f"must be [{n}]"
                )
            if np.isinf(column).any():
                raise DataError(f"table {self.name!r}: metric {metric!r} is infinite in places; mark failures by NaN")
        distinct = len(unique_rows(self._rows))
        if distinct < n:
            raise DataError(
                f"table {self.name!r}: {n - distinct} of {n} genotypes repeat another one in canonical form (genes "
                "that do not matter are ignored); keep one of each"
            )
        if (infeasible := int((~self.space.feasible(self._rows)).sum())) > 0:
            raise DataError(f"table {self.name!r}: {infeasible} genotypes are forbidden combinations of its space")
        if self._missing not in (None, *MISSING):
            raise DataError(f"table {self.name!r}: missing must be one of {', '.join(MISSING)}; got {self._missing!r}")
        if self._missing is None and n < self.space.n_distinct:
            raise DataError(
                f"table {self.name!r} lists {n} of the {self.space.n_distinct:.6g} networks of its space; say what "
                'becomes of the others: "missing": "nearest" (figures of the nearest listed network) or "failed"'
            )

    def _find(self, G: Rows) -> NDArray[np.int64]:
        """Return the position of each canonical row, the nearest or -1 where it is not listed."""
        found = np.array([self._at.get(key, -1) for key in row_keys(G)], dtype=np.int64)
        if self._missing == "nearest" and (absent := np.flatnonzero(found < 0)).size:
            found[absent] = self._nearest(G[absent])
        return found

    @cached_property
    def _coordinates(self) -> Values:
        return self._steps(self._rows)

    def _steps(self, G: Rows) -> Values:
        return np.rint(self.space.features(G).astype(np.float64) * _STEPS)

    def _nearest(self, G: Rows) -> NDArray[np.int64]:
        listed = self._coordinates
        square = (listed**2).sum(axis=1)
        parts = [
            (square - 2.0 * (self._steps(G[start : start + _CHUNK]) @ listed.T)).argmin(axis=1)
            for start in range(0, len(G), _CHUNK)
        ]
        return np.concatenate(parts)

    def evaluate(self, G: Rows, metrics: Collection[str]) -> dict[str, Values]:
        """Return metrics of canonical rows, name -> float64 ``[n]``."""
        at = self._find(G)
        return {m: np.where(at >= 0, self._columns[m][at], np.nan) for m in metrics}

    def networks(self, G: Rows) -> Sequence[Hashable]:
        """Return a number for the network behind each canonical row, its key where it is not listed."""
        at = self._find(G)
        ids: list[int] = self._network[at].tolist()
        return [i if a >= 0 else key for i, a, key in zip(ids, at.tolist(), row_keys(G), strict=True)]

    def all_rows(self) -> Rows:
        """Return the listed rows."""
        return self._rows

    @cached_property
    def fingerprint(self) -> str:
        """Hash of space, rows, figures, groups and the treatment of missing rows."""
        digest = hashlib.sha256(f"{self.space.identity} {self._missing}".encode())
        for array in (self._rows, self._network.astype(np.int64)):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        for metric, column in self._columns.items():
            digest.update(metric.encode() + np.ascontiguousarray(column, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]
