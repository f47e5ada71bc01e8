"""Genes that a baseline leaves as the user says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nassearch.errors import ConfigError
from search_spaces import Gene, Rows, SearchSpace
from search_spaces.errors import did_you_mean

FORM = "write NAME=VALUE, several joined by '+', for example criterion=reap+op=drop"


def fixed_genes(strategy: str, space: SearchSpace, given: object) -> dict[int, int]:
    """Return the columns that have one value throughout, and that value's choice index.

    Args:
        strategy: Name of the strategy, for messages.
        space: The space.
        given: Text such as ``"criterion=reap+op=drop"``, or a mapping of names to values. A name is that of a gene, or
            of a group of genes: ``op`` for ``op.0``, ``op.1``, …; ``largest`` and ``smallest`` are values of all.

    Raises:
        ConfigError: Something else, or names and values that the space has not; all faults together.
    """
    pairs, faults = _pairs(strategy, given)
    names = [g.name for g in space.genes]
    known = [*names, *space.groups]
    fixed: dict[int, int] = {}
    for name, value in pairs.items():
        columns = space.groups.get(name) or [i for i, n in enumerate(names) if n == name]
        if not columns:
            faults.append(
                f"strategy {strategy!r}: space {space.name!r} has no gene {name!r} to fix{did_you_mean(name, known)}; "
                f"its genes: {', '.join(dict.fromkeys(n.partition('.')[0] for n in names))}"
            )
        for column in columns:
            index = _index(space.genes[column], value)
            if index is None:
                faults.append(
                    f"strategy {strategy!r}: gene {names[column]!r} cannot be fixed to {value!r}; its values: "
                    f"{', '.join(map(str, space.genes[column].choices))}, largest, smallest"
                )
                break
            fixed[column] = index
    if faults:
        raise ConfigError(faults)
    return fixed


def _pairs(strategy: str, given: object) -> tuple[dict[str, object], list[str]]:
    if isinstance(given, Mapping):
        return {str(n): v for n, v in given.items()}, []
    if not isinstance(given, str):
        raise ConfigError(f"strategy {strategy!r}: option 'fixed' must be text, not {given!r}; {FORM}")
    pairs: dict[str, object] = {}
    faults = []
    for part in filter(None, (p.strip() for p in given.split("+"))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not name or not value:
            faults.append(f"strategy {strategy!r}: option 'fixed': {part!r} fixes nothing; {FORM}")
        elif name in pairs:
            faults.append(f"strategy {strategy!r}: option 'fixed' names {name!r} twice; give each gene one value")
        else:
            pairs[name] = value
    return pairs, faults


def _index(gene: Gene, value: object) -> int | None:
    """Return the index of a choice that is the value or is written so, None where there is none."""
    if value in ("largest", "smallest") and value not in gene.choices:
        return gene.index(getattr(gene, str(value)))
    return next((i for i, c in enumerate(gene.choices) if c == value or str(c) == str(value)), None)


def with_fixed(G: Rows, fixed: Mapping[int, int]) -> Rows:
    """Return a copy of rows ``[n, n_genes]`` that have the fixed values; neither canonical nor repaired."""
    rows = np.array(G, dtype=np.int64)
    for column, index in fixed.items():
        rows[:, column] = index
    return rows
