"""A search space: genes, which of them matter when, and which combinations are forbidden, as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import counting, restriction, sampling
from search_spaces.architecture import decode_rows, encode_one
from search_spaces.derived import Derived, any_present, derived_columns
from search_spaces.errors import SearchSpaceError, did_you_mean
from search_spaces.features import FeatureEncoder
from search_spaces.gene import Gene, Value
from search_spaces.rows import Rows, row_keys

Forbidden = Mapping[str, frozenset[Value]]

_ENUMERATE_AT_MOST = 200_000


class SearchSpace:
    """The set of architectures of one supernet, handled as integer matrices of choice indices.

    A population is ``G``, int64 ``[n, n_genes]``. Two rows of canonical populations are equal exactly when
    they are the same network as far as the declarations know: inactive genes are 0 and aliased choices are
    their first alias.

    Args:
        name: The name under which runs know the space.
        genes: The elastic dimensions, in column order.
        forbidden: Combinations that no network may have: each maps gene names to values, and is violated by
            a row whose genes are all active and all have one of those values.
        derived: Further columns of `features`, which several genes together decide.

    Raises:
        SearchSpaceError: Repeated names, references to unknown genes or values, circular activity.

    Example:
        >>> space = SearchSpace("tiny", [Gene("d", [1, 2]), Gene("k2", [3, 5], active_when={"d": {2}})])
        >>> space.n_genotypes, space.n_distinct
        (4, 3)
    """

    def __init__(
        self,
        name: str,
        genes: Iterable[Gene],
        forbidden: Iterable[Mapping[str, Collection[Value]]] = (),
        derived: Iterable[Derived] = (),
    ) -> None:
        self.name = name
        self.genes: tuple[Gene, ...] = tuple(genes)
        self.forbidden: tuple[Forbidden, ...] = tuple({k: frozenset(v) for k, v in f.items()} for f in forbidden)
        self.derived: tuple[Derived, ...] = tuple(derived)
        self._check_names()
        self._alias = [np.array(g.canonical_indices(), dtype=np.int64) for g in self.genes]
        self._controllers = [self._by_column(g.active_when) for g in self.genes]
        self._alternatives = [[self._by_column(c) for c in g.active_if_any] for g in self.genes]
        self._forbidden = [self._by_column(f) for f in self.forbidden]
        self._derived = [[self._by_column(c) for c in d.any_of] for d in self.derived]
        self._order = self._topological_order()
        for f in self.forbidden:
            if not f or not all(f.values()):
                raise SearchSpaceError(
                    f"search space {name!r}: forbidden combination {dict(f)} names no gene or no value"
                )

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.genes)} genes, {self.n_genotypes:.3g} genotypes)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    # -- declaration ---------------------------------------------------------------------------------

    def _check_names(self) -> None:
        if not self.genes:
            raise SearchSpaceError(f"search space {self.name!r} has no genes")
        names = [g.name for g in self.genes]
        for what, given in (("gene", names), ("derived feature", [d.name for d in self.derived])):
            if repeated := sorted({n for n in given if given.count(n) > 1}):
                raise SearchSpaceError(f"search space {self.name!r} repeats {what} names {repeated}")
        if self.derived and (same := sorted({d.name for d in self.derived} & set(self._encoder.names))):
            raise SearchSpaceError(f"search space {self.name!r}: derived features {same} have names of genes' features")
        clash = sorted(set(names) & {n.rpartition(".")[0] for n in names})
        if clash:
            raise SearchSpaceError(f"search space {self.name!r}: {clash} name both a gene and a group of genes")

    def column(self, name: str) -> int:
        """Return the column of the gene called ``name``.

        Raises:
            SearchSpaceError: There is no such gene.
        """
        column = self._columns_by_name.get(name)
        if column is None:
            near = did_you_mean(name, self._columns_by_name)
            raise SearchSpaceError(f"search space {self.name!r} has no gene {name!r}{near}")
        return column

    @cached_property
    def _columns_by_name(self) -> dict[str, int]:
        return {g.name: i for i, g in enumerate(self.genes)}

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Group name -> columns of its genes ``name.0``, ``name.1``, … in order; for compact forms."""
        found: dict[str, dict[int, int]] = {}
        for column, gene in enumerate(self.genes):
            prefix, _, number = gene.name.rpartition(".")
            if prefix and number.isdecimal():
                found.setdefault(prefix, {})[int(number)] = column
        return {p: [m[i] for i in range(len(m))] for p, m in found.items() if set(m) == set(range(len(m)))}

    def columns_of_role(self, role: str) -> list[int]:
        """Return the columns of the genes with this role."""
        return [i for i, g in enumerate(self.genes) if g.role == role]

    def _closed(self, column: int, values: Iterable[Value]) -> NDArray[np.bool_]:
        """Return which choices of the gene are among ``values`` or aliases of them: [n_choices] bools."""
        gene, alias = self.genes[column], self._alias[column]
        wanted = {int(alias[gene.index(v, what="a condition on value")]) for v in values}
        return np.array([int(a) in wanted for a in alias], dtype=bool)

    def _by_column(self, condition: Mapping[str, Collection[Value]]) -> dict[int, NDArray[np.bool_]]:
        return {self.column(g): self._closed(self.column(g), values) for g, values in condition.items()}

    def _deciding(self, column: int) -> set[int]:
        """Return the genes that the declaration of a gene's activity names."""
        return set(self._controllers[column]).union(*self._alternatives[column])

    def _topological_order(self) -> list[int]:
        order: list[int] = []
        placed: set[int] = set()
        remaining = list(range(len(self.genes)))
        while remaining:
            ready = [i for i in remaining if self._deciding(i) <= placed]
            if not ready:
                raise SearchSpaceError(
                    f"search space {self.name!r}: genes {[self.genes[i].name for i in remaining]} control one "
                    "another in a circle"
                )
            order += ready
            placed |= set(ready)
            remaining = [i for i in remaining if i not in placed]
        return order

    # -- size ----------------------------------------------------------------------------------------

    @cached_property
    def n_choices(self) -> NDArray[np.int64]:
        """Number of choices of each gene, int64 ``[n_genes]``."""
        return np.array([len(g.choices) for g in self.genes], dtype=np.int64)

    @cached_property
    def n_genotypes(self) -> int:
        """Number of rows, canonical or not, allowed or not: the product of the choices."""
        return prod(len(g.choices) for g in self.genes)

    @cached_property
    def n_distinct(self) -> int:
        """Exact number of distinct feasible networks (canonical feasible rows).

        Raises:
            SearchSpaceError: The declarations are too entangled to count within memory.
        """
        return counting.count_distinct(self)

    # -- canonical form ------------------------------------------------------------------------------

    def _checked(self, G: NDArray[Any]) -> Rows:
        rows = np.asarray(G)
        if rows.ndim != 2 or rows.shape[1] != len(self.genes) or not np.issubdtype(rows.dtype, np.integer):
            raise SearchSpaceError(
                f"expected an integer array [n, {len(self.genes)}] of choice indices, got {rows.dtype} "
                f"{list(rows.shape)}"
            )
        if rows.size and (rows.min() < 0 or (rows.max(axis=0) >= self.n_choices).any()):
            bad = int(np.flatnonzero(((rows < 0) | (rows >= self.n_choices)).any(axis=0))[0])
            gene = self.genes[bad]
            raise SearchSpaceError(f"gene {gene.name!r} has choice indices 0..{len(gene.choices) - 1}; others given")
        return rows.astype(np.int64, copy=False)

    def _active_columns(self, columns: NDArray[Any]) -> NDArray[np.bool_]:
        """As `active`, for ``[n_genes, n]`` contiguous columns: strided column access would dominate."""
        active = np.ones(columns.shape, dtype=bool)
        conditions: dict[tuple[int, bytes], NDArray[np.bool_]] = {}
        for i in self._order:
            for c, allowed in self._controllers[i].items():
                key = (c, allowed.tobytes())
                if key not in conditions:
                    conditions[key] = active[c] & allowed[columns[c]]
                active[i] &= conditions[key]
            if self._alternatives[i]:
                active[i] &= any_present(self._alternatives[i], columns, active)
        return active

    def active(self, G: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which genes matter in each row, bool ``[n, n_genes]``."""
        return np.ascontiguousarray(self._active_columns(np.ascontiguousarray(self._checked(G).T)).T)

    def canonical(self, G: NDArray[Any]) -> Rows:
        """Return the canonical form of each row, int64 ``[n, n_genes]``; equal networks get equal rows."""
        columns = np.ascontiguousarray(self._checked(G).T)
        return np.ascontiguousarray(self._canonical_columns(columns).T)

    def _canonical_columns(self, columns: NDArray[Any]) -> Rows:
        result = columns * self._active_columns(columns)
        for i in self._aliased:
            result[i] = self._alias[i][result[i]]
        return result

    @cached_property
    def _aliased(self) -> list[int]:
        return [i for i, a in enumerate(self._alias) if (a != np.arange(len(a))).any()]

    def keys(self, G: NDArray[Any]) -> list[bytes]:
        """Return one hashable key a row; canonical rows have equal keys exactly when they are equal."""
        return row_keys(self._checked(G))

    # -- feasibility ---------------------------------------------------------------------------------

    def feasible(self, G: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which rows avoid every forbidden combination, bool ``[n]``."""
        rows = self._checked(G)
        return np.logical_not(self._violations(rows).any(axis=1))

    def _violations(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which combinations each row violates, bool ``[n, n_forbidden]``."""
        violated = np.ones((len(rows), len(self._forbidden)), dtype=bool)
        if not self._forbidden:
            return violated
        active = self.active(rows)
        for j, combination in enumerate(self._forbidden):
            for column, values in combination.items():
                violated[:, j] &= active[:, column] & values[rows[:, column]]
        return violated

    def repair(self, G: NDArray[Any], rng: np.random.Generator) -> Rows:
        """Return canonical feasible rows that differ from ``G`` only where a combination was forbidden.

        Raises:
            SearchSpaceError: A row could not be repaired.
        """
        return sampling.repair(self, self.canonical(G), rng)

    # -- sampling ------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Return at most ``n`` distinct canonical feasible rows; fewer only when the space has fewer.

        Uniform over genotypes, then made canonical; uniform over networks where few genotypes are new networks,
        and in a small space. The result is a function of the state of ``rng``.
        """
        return sampling.sample(self, n, rng)

    def enumerate(self, limit: int = _ENUMERATE_AT_MOST) -> Rows | None:
        """Return all canonical feasible rows in a fixed order, or None where there are more than ``limit``."""
        return counting.enumerate_rows(self, limit)

    # -- readable form -------------------------------------------------------------------------------

    def decode(self, G: NDArray[Any]) -> list[dict[str, Value]]:
        """Return the architecture (gene name -> value) of each row."""
        return decode_rows(self, self._checked(G))

    def encode(self, architectures: Sequence[Mapping[str, Any]]) -> Rows:
        """Return the canonical rows of architectures, int64 ``[n, n_genes]``.

        Genes ``ks.0 … ks.19`` may be given together as ``{"ks": [v0, …, v19]}``; inactive genes may be
        left out.

        Raises:
            InvalidArchitecture: As `validate`.
        """
        rows = [encode_one(self, a) for a in architectures]
        return self.canonical(np.array(rows, dtype=np.int64).reshape(len(rows), len(self.genes)))

    def validate(self, architecture: Mapping[str, Any]) -> None:
        """Check that an architecture belongs to the space.

        Raises:
            InvalidArchitecture: An unknown or missing gene, a value outside its choices, a forbidden
                combination; the message names gene, value and allowed values.
        """
        encode_one(self, architecture)

    # -- features ------------------------------------------------------------------------------------

    @cached_property
    def _encoder(self) -> FeatureEncoder:
        return FeatureEncoder(self.genes)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a column of `features`."""
        return (*self._encoder.names, *(d.name for d in self.derived))

    def features(self, G: NDArray[Any]) -> NDArray[np.float32]:
        """Return masked one-hot and ordinal features for predictors, float32 ``[n, f]``.

        The columns of an inactive gene are all zero, so equal networks have equal features. Derived features come last.
        """
        columns = np.ascontiguousarray(self._checked(G).T)
        canonical, active = self._canonical_columns(columns), self._active_columns(columns)
        features = self._encoder(canonical, active)
        if not self._derived:
            return features
        return np.concatenate([features, derived_columns(self._derived, canonical, active)], axis=1)

    # -- landmarks -----------------------------------------------------------------------------------

    @cached_property
    def largest(self) -> Rows:
        """The row of the largest network, int64 ``[n_genes]``; raises `SearchSpaceError` where it is forbidden."""
        return self._landmark("largest", [g.index(g.largest) for g in self.genes])

    @cached_property
    def smallest(self) -> Rows:
        """The row of the smallest network, int64 ``[n_genes]``; raises as `largest`."""
        return self._landmark("smallest", [g.index(g.smallest) for g in self.genes])

    def _landmark(self, which: str, row: list[int]) -> Rows:
        canonical = self.canonical(np.array([row], dtype=np.int64))
        if not self.feasible(canonical)[0]:
            raise SearchSpaceError(
                f"search space {self.name!r} forbids its own {which} network; give the genes another {which}="
            )
        landmark: Rows = canonical[0]
        landmark.setflags(write=False)
        return landmark

    # -- as data -------------------------------------------------------------------------------------

    @cached_property
    def identity(self) -> str:
        """Stable hash of name and declarations; runs refuse to mix spaces of different identity."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the whole space as JSON data."""
        data: dict[str, Any] = {"name": self.name, "genes": [g.to_json() for g in self.genes]}
        if self.forbidden:
            data["forbidden"] = [{k: sorted(v, key=repr) for k, v in sorted(f.items())} for f in self.forbidden]
        if self.derived:
            data["derived"] = [d.to_json() for d in self.derived]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """Rebuild a space from `to_json`.

        Raises:
            SearchSpaceError: The data is not a search space.
        """
        if not isinstance(data, Mapping) or not {"name", "genes"} <= set(data):
            raise SearchSpaceError("not a search space: a JSON object with 'name' and 'genes' is needed")
        derived = [Derived.from_json(d) for d in data.get("derived", ())]
        return cls(data["name"], [Gene.from_json(g) for g in data["genes"]], data.get("forbidden", ()), derived)

    def restricted(self, choices: Mapping[str, Collection[Value]], name: str | None = None) -> SearchSpace:
        """Return the space with fewer choices; its architectures are valid here too.

        Args:
            choices: Gene name or group name -> values to keep.
            name: Name of the new space. Default: this space's name and ``"~"``.

        Raises:
            SearchSpaceError: An unknown gene, or a value that is not among its choices.
        """
        keep: dict[int, set[int]] = {}
        for key, values in choices.items():
            for column in self.groups.get(key) or [self.column(key)]:
                keep[column] = {self.genes[column].index(v) for v in values}
        return restriction.restrict(self, keep, name or f"{self.name}~")
