"""NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv:2001.00326): every cell with accuracies, and latencies of devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nassearch.bench.npz import need_folder, read_arrays
from nassearch.bench.registry import register_reader
from nassearch.bench.tables import RowTable
from nassearch.errors import ConfigError, DataError
from search_spaces import Derived, Gene, SearchSpace
from search_spaces.errors import did_you_mean

OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "avgpool")
EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
_PATHS = (("0-3",), ("0-1", "1-3"), ("0-2", "2-3"), ("0-1", "1-2", "2-3"))  # from the input to the output
_CONTROL = {"0-2": ("2-3",), "1-2": ("0-1", "2-3"), "1-3": ("0-1",)}  # edges that lead somewhere, from somewhere
_FILES = ("accuracy.npz", "latency_ms.npz")
_CELLS = ("all", "live")


def nas_bench_201_space(cells: str = "all") -> SearchSpace:
    """Return the space of cells: one operation for each of the six edges of a graph of four nodes.

    Its derived features tell which paths from the input to the output are open, and the operation of each edge that an
    open path uses.

    Args:
        cells: ``"all"`` 15,625 cells, as published; ``"live"`` makes edges inactive that start or end at a node whose
            only edge to the input or the output is "none" (10,205 cells).
    """
    live = [op for op in OPERATIONS if op != "none"]
    genes = [
        Gene(
            edge,
            OPERATIONS,
            kind="categorical",
            role="operation",
            largest="conv3x3",
            smallest="skip",
            active_when=dict.fromkeys(_CONTROL.get(edge, ()), live) if cells == "live" else None,
        )
        for edge in EDGES
    ]
    name = "nas-bench-201" if cells == "all" else "nas-bench-201-live"
    return SearchSpace(name, genes, derived=_path_features(live))


def _path_features(live: list[str]) -> list[Derived]:
    features = [Derived(f"path {' '.join(path)}", [dict.fromkeys(path, live)]) for path in _PATHS]
    for edge in EDGES:
        through = [path for path in _PATHS if edge in path]
        for op in live:
            any_of = [{e: [op] if e == edge else live for e in path} for path in through]
            features.append(Derived(f"used {edge}={op}", any_of))
    return features


def live_cells(operations: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return cells with "none" on every edge that no path from the input to the output uses.

    Args:
        operations: int ``[n, 6]``, indices of `OPERATIONS` in the order of `EDGES`.
    """
    on = operations != 0
    into_2 = on[:, 1] | (on[:, 0] & on[:, 2])
    from_1 = on[:, 4] | (on[:, 2] & on[:, 5])
    used = np.stack([from_1, on[:, 5], on[:, 0] & on[:, 5], np.ones(len(on), dtype=bool), on[:, 0], into_2], axis=1)
    return np.where(used, operations, 0)


@register_reader("nas-bench-201")
def read_nas_bench_201(
    path: Path,
    *,
    device: str = "raspi4",
    accuracy: str = "test200_cifar100",
    report: str | None = None,
    cells: str = "all",
) -> RowTable:
    """All 15,625 cells: accuracy, parameters, and latency on eight devices.

    A dead edge costs latency and parameters all the same in these measurements: they ran the whole cell. The cells
    of ``cells="all"`` are therefore networks of their own; with ``"live"`` a cell has the figures of the one whose
    dead edges are "none".

    Args:
        path: Folder with ``accuracy.npz`` and ``latency_ms.npz``.
        device: Device whose latency is an objective; several joined by ``+``.
        accuracy: Accuracy that is an objective.
        report: Accuracy by which the cells found are judged. Default: the same.
        cells: ``"all"`` or ``"live"``.

    Raises:
        ConfigError: An unknown device, accuracy or kind of cells; `DataError` for missing or malformed files.
    """
    need_folder(path, _FILES)
    accuracies, latencies = read_arrays(path / _FILES[0]), read_arrays(path / _FILES[1])
    if "ops" not in accuracies:
        raise DataError(f"{path / _FILES[0]} has no array 'ops'")
    measured = sorted(name for name in accuracies if name.startswith(("test", "val")))
    devices = device.split("+")
    _check("accuracy", [accuracy, report or accuracy], measured)
    _check("device", devices, sorted(latencies))
    _check("cells", [cells], _CELLS)
    operations = accuracies["ops"].astype(np.int64)
    n = len(OPERATIONS) ** len(EDGES)
    if operations.shape != (n, len(EDGES)) or operations.min() < 0 or operations.max() >= len(OPERATIONS):
        raise DataError(f"{path / _FILES[0]}: 'ops' must be [{n}, {len(EDGES)}] of 0..{len(OPERATIONS) - 1}")
    metrics = {name: accuracies[name] for name in measured}
    if "params_M" in accuracies:
        metrics["params_m"] = accuracies["params_M"]
    if "flops_M_cifar10" in accuracies:
        metrics["macs_m"] = accuracies["flops_M_cifar10"]  # the authors count a multiply-accumulate as one
    metrics |= {f"latency_ms@{name}": column for name, column in latencies.items()}
    space = nas_bench_201_space(cells)
    rows, network = operations, None
    if cells == "live":
        position = np.empty((len(OPERATIONS),) * len(EDGES), dtype=np.int64)
        position[tuple(operations.T)] = np.arange(n)
        listed = (space.canonical(operations) == operations).all(axis=1)
        rows = operations[listed]
        network = position[tuple(live_cells(rows).T)]
        metrics = {name: column[network] for name, column in metrics.items()}
    judged = f"{accuracy}-to-{report}" if report and report != accuracy else accuracy
    return RowTable(
        "-".join(["nas-bench-201", judged, *devices] + (["live"] if cells == "live" else [])),
        space,
        rows,
        metrics,
        objectives=[f"{accuracy}:max", *(f"latency_ms@{d}:min" for d in devices)],
        analytic=[m for m in ("params_m", "macs_m") if m in metrics],
        report={accuracy: report} if report else None,
        network=network,
    )


def _check(option: str, given: list[str], allowed: list[str] | tuple[str, ...]) -> None:
    for value in given:
        if value not in allowed:
            near = did_you_mean(value, allowed)
            raise ConfigError(f"nas-bench-201: {option} {value!r} is not there{near}; there are {', '.join(allowed)}")
