"""A small made-up table: every network of a space with inactive genes, two objectives that trade off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nassearch.bench import RowTable, TabularProblem
from search_spaces import Gene, SearchSpace


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    """216 networks: three layers of which the last may be absent."""
    wide = [1, 2, 3, 4, 5, 6]
    genes = [Gene("d", [2, 3]), Gene("w1", wide), Gene("w2", [1, 2, 3]), Gene("k", [3, 5])]
    return SearchSpace("made-up", [*genes, Gene("w3", [1, 2, 3, 4, 5], active_when={"d": [3]})])


@pytest.fixture(scope="session")
def columns(space: SearchSpace) -> dict[str, Any]:
    """Rows of all networks and their metrics."""
    rows = space.enumerate()
    assert rows is not None
    x = rows.astype(float)
    cost = 1 + x @ [1.0, 2.0, 1.5, 0.5, 0.7]
    quality = 90 - 60 / (1 + 0.5 * x @ [0.5, 1.2, 1.0, 0.9, 1.1]) + np.sin(7 * x.sum(axis=1))
    return {"rows": rows, "top1": quality, "latency_ms": cost, "params_m": 2 * cost + 1, "test": quality[::-1].copy()}


@pytest.fixture
def table(space: SearchSpace, columns: dict[str, Any]) -> RowTable:
    metrics = {k: v for k, v in columns.items() if k != "rows"}
    return RowTable(
        "made-up", space, columns["rows"], metrics, objectives=["top1:max", "latency_ms:min"], analytic=["params_m"]
    )


@pytest.fixture
def problem(table: RowTable) -> TabularProblem:
    return TabularProblem(table)


@pytest.fixture
def data(space: SearchSpace, columns: dict[str, Any]) -> dict[str, Any]:
    """The same table as the content of a JSON file."""
    return {
        "space": space.to_json(),
        "genotypes": columns["rows"].tolist(),
        "metrics": {k: columns[k].tolist() for k in ("top1", "latency_ms")},
        "objectives": ["top1:max", "latency_ms:min"],
    }


@pytest.fixture
def table_file(data: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    return path
