"""A user's own table: genotypes or architectures with their metrics, as JSON or .npz."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.bench.npz import read_arrays
from nassearch.bench.registry import register_reader
from nassearch.bench.tables import RowTable
from nassearch.errors import DataError
from nassearch.objectives import parse_objectives
from search_spaces import SearchSpace, get_space
from search_spaces.errors import SearchSpaceError, did_you_mean

_ROWS = ("genotypes", "architectures")
_LISTS = ("objectives", "constraints", "analytic")
_KEYS = ("space", *_ROWS, "metrics", *_LISTS, "report", "missing", "name")
_PREFIX = "metrics."


@register_reader("table")
def read_user_table(path: Path) -> RowTable:
    """Your own table, .json or .npz; the format is in docs/user-guide/choosing-a-strategy.md.

    JSON: an object with

    - ``space``: the name of a registered space, or the object of `SearchSpace.to_json`;
    - ``genotypes``: lists of choice indices, or ``architectures``: objects of gene name -> value;
    - ``metrics``: metric -> list of numbers, one a network; null where its evaluation failed;
    - ``objectives``: for example ``["top1:max", "latency_ms:min"]``;
    - optional ``constraints``, ``analytic`` (metrics that strategies may compute), ``report`` (objective's metric ->
      metric it is judged by), ``missing`` (``"nearest"`` or ``"failed"``, needed where the table does not list every
      network of the space) and ``name``.

    .npz: an array ``genotypes`` [N, n_genes] of integers, an array ``metrics.NAME`` [N] for each metric, and ``meta``:
    one text, the JSON object of the other keys.

    Args:
        path: The file.

    Raises:
        DataError: The file is not of that form.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        data = _parse(path, path.read_bytes())
    elif suffix == ".npz":
        data = _unpack(path)
    else:
        raise DataError(f"{path}: a table ends in .json or .npz")
    _check(path, data)
    try:
        space = _space(data["space"])
        rows = _rows(space, data)
        parse_objectives(data["objectives"])
        return RowTable(
            str(data.get("name") or path.stem),
            space,
            rows,
            {name: _column(name, values) for name, values in data["metrics"].items()},
            objectives=data["objectives"],
            constraints=data.get("constraints", ()),
            analytic=data.get("analytic", ()),
            report=data.get("report"),
            missing=data.get("missing"),
        )
    except (SearchSpaceError, DataError) as error:
        raise DataError(f"{path}: {error}") from error


def _parse(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:  # also of bytes that are no text
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: a JSON object is needed, not {type(data).__name__}")
    return data


def _unpack(path: Path) -> dict[str, Any]:
    arrays = read_arrays(path)
    if "meta" not in arrays or "genotypes" not in arrays:
        raise DataError(f"{path} needs the arrays 'genotypes' and 'meta'; it has {', '.join(arrays) or 'none'}")
    meta = arrays.pop("meta")
    if meta.shape != () or meta.dtype.kind != "U":
        raise DataError(f"{path}: 'meta' must be one text, np.array(json.dumps(...)); got {meta.dtype} {meta.shape}")
    data = _parse(path, str(meta))
    data["genotypes"] = arrays.pop("genotypes")
    if strange := [name for name in arrays if not name.startswith(_PREFIX)]:
        raise DataError(f"{path}: arrays {strange} are neither 'genotypes', 'meta' nor '{_PREFIX}NAME'")
    data["metrics"] = {name.removeprefix(_PREFIX): column for name, column in arrays.items()}
    return data


def _check(path: Path, data: Mapping[str, Any]) -> None:
    """Check keys and kinds; all faults are reported together."""
    faults = [f"unknown key {key!r}{did_you_mean(key, _KEYS)}" for key in data if key not in _KEYS]
    faults += [f"{key!r} is missing" for key in ("space", "metrics", "objectives") if key not in data]
    if sum(key in data for key in _ROWS) != 1:
        faults.append("exactly one of 'genotypes' and 'architectures' is needed")
    if not isinstance(data.get("metrics", {}), Mapping) or data.get("metrics") == {}:
        faults.append("'metrics' must map names to lists of numbers, one a network")
    for key in _LISTS:
        if not isinstance(data.get(key, []), list) or not all(isinstance(v, str) for v in data.get(key, [])):
            faults.append(f"{key!r} must be a list of texts")
    report = data.get("report", {})
    if not isinstance(report, Mapping) or not all(isinstance(v, str) for v in report.values()):
        faults.append("'report' must map metrics to metrics")
    if not isinstance(data.get("name", ""), str):
        faults.append("'name' must be a text")
    if not faults:
        known = list(data["metrics"])
        used = [*data.get("analytic", []), *report, *report.values()]
        faults += [f"no metric {m!r}{did_you_mean(m, known)}; there are {', '.join(known)}" for m in used
                   if m not in known]  # fmt: skip
    if faults:
        raise DataError([f"{path}: {fault}" for fault in faults])


def _space(data: Any) -> SearchSpace:
    if isinstance(data, str):
        return get_space(data)
    if not isinstance(data, Mapping):
        raise DataError("'space' must be the name of a search space or the object of SearchSpace.to_json()")
    try:
        return SearchSpace.from_json(data)
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"'space' is no search space: {error}") from error


def _rows(space: SearchSpace, data: Mapping[str, Any]) -> NDArray[np.integer[Any]]:
    if "architectures" in data:
        listed = data["architectures"]
        if not isinstance(listed, list) or not all(isinstance(a, Mapping) for a in listed):
            raise DataError("'architectures' must be a list of objects, gene name -> value")
        return space.encode(listed)
    try:
        rows = np.asarray(data["genotypes"])
    except ValueError as error:
        raise DataError("'genotypes' must be lists of equal length") from error
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(
            f"'genotypes' must be integers [N, {len(space.genes)}], choice indices of the genes "
            f"{', '.join(g.name for g in space.genes[:6])}{', …' if len(space.genes) > 6 else ''}"
        )
    return rows


def _column(name: str, values: Any) -> NDArray[np.float64]:
    try:
        column = np.asarray(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise DataError(f"metric {name!r} must be numbers, or null where the evaluation failed: {error}") from error
    return column
