"""Features that a space declares beside those of its genes: what only several genes together decide."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import SearchSpaceError
from search_spaces.gene import Value

Condition = Mapping[str, Collection[Value]]


class Derived:
    """A feature that is 1 where any of some combinations of genes is present, else 0.

    Models learn slowly that a path through a cell is open only while all its edges are, or that two widths meet;
    whoever knows the network can say so. A derived feature changes what predictors see, not which networks there are.

    Args:
        name: Name of the feature's column.
        any_of: Combinations, each gene name -> values; one is present where all its genes are active and have one of
            their values.

    Raises:
        SearchSpaceError: No name, an empty combination, or one that does not map genes to values.

    Example:
        >>> Derived("path 0-1-3 open", [{"0-1": ["skip", "conv3x3"], "1-3": ["skip", "conv3x3"]}]).genes
        frozenset({'0-1', '1-3'})
    """

    def __init__(self, name: str, any_of: Iterable[Condition]) -> None:
        self.name = name
        any_of = tuple(any_of) if isinstance(any_of, Iterable) else (any_of,)
        if not all(map(_is_condition, any_of)):
            raise SearchSpaceError(f"derived feature {name!r}: each combination maps genes to values, got {any_of!r}")
        self.any_of: tuple[Mapping[str, frozenset[Value]], ...] = tuple(
            {gene: frozenset(values) for gene, values in condition.items()} for condition in any_of
        )
        if not isinstance(name, str) or not name:
            raise SearchSpaceError(f"a derived feature needs a name, got {name!r}")
        if not self.any_of or not all(c and all(c.values()) for c in self.any_of):
            raise SearchSpaceError(f"derived feature {name!r} has an empty combination; name genes and their values")

    @property
    def genes(self) -> frozenset[str]:
        """Names of the genes that it depends on."""
        return frozenset(gene for condition in self.any_of for gene in condition)

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as JSON data."""
        conditions = [{g: sorted(v, key=repr) for g, v in sorted(c.items())} for c in self.any_of]
        return {"name": self.name, "any_of": conditions}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Derived:
        """Rebuild from `to_json`.

        Raises:
            SearchSpaceError: The data is not a derived feature.
        """
        if not isinstance(data, Mapping) or set(data) != {"name", "any_of"}:
            raise SearchSpaceError(f"not a derived feature: 'name' and 'any_of' are needed, got {data!r}")
        return cls(data["name"], data["any_of"])


def _is_condition(data: Any) -> bool:
    """Return whether data maps gene names to collections of values (a string is none)."""
    return isinstance(data, Mapping) and all(
        isinstance(gene, str)
        and isinstance(values, Collection)
        and not isinstance(values, str | Mapping)
        and all(isinstance(v, Hashable) for v in values)
        for gene, values in data.items()
    )


def derived_columns(
    combinations: list[list[dict[int, NDArray[np.bool_]]]], columns: NDArray[Any], active: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the derived features of a population.

    Args:
        combinations: For each feature its combinations: gene column -> which choices are allowed, bool ``[n_choices]``.
        columns: int ``[n_genes, n]``, canonical.
        active: bool ``[n_genes, n]``.

    Returns:
        float32 ``[n, n_features]``.
    """
    out = np.zeros((columns.shape[1], len(combinations)), dtype=np.float32)
    for j, any_of in enumerate(combinations):
        out[:, j] = any_present(any_of, columns, active)
    return out


def any_present(
    any_of: list[dict[int, NDArray[np.bool_]]], columns: NDArray[Any], active: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return in which rows one combination at least is present, bool ``[n]``; see `derived_columns`."""
    present = np.zeros(columns.shape[1], dtype=bool)
    for combination in any_of:
        holds = np.ones(columns.shape[1], dtype=bool)
        for column, allowed in combination.items():
            holds &= active[column] & allowed[columns[column]]
        present |= holds
    return present
