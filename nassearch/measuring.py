"""Measuring a space block by block: the table from which latencies of all its networks are summed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.errors import ConfigError
from nassearch.folders import check_file_is_free, locked_file
from predictors.latency_table import LatencyTable, Slot, Timing
from search_spaces import Rows

if TYPE_CHECKING:
    from predictors import LatencySetting, Quality
    from supernets import Block, Supernet

_PROBES = 3  # steps that are timed to predict the others


@dataclass(frozen=True)
class Step:
    """One measurement to make.

    Attributes:
        name: What is measured.
        measure: Makes it, and returns the figure and the table with it.
        network: Whether it is of a whole network.
    """

    name: str
    measure: Callable[[LatencyTable], tuple[Timing, LatencyTable]]
    network: bool = False


@dataclass
class TableMeasurement:
    """Measures the blocks of a supernet, and whole networks of it, into a table; goes on where it was stopped.

    Args:
        net: The supernet; its weights do not matter.
        setting: Device, backend, batch and threads.
        path: File of the table; the measurements in it are kept.
        networks: Rows of whole networks to measure too, int ``[n, n_genes]``.
        passes: How often everything is measured; the fastest figure counts. Passes are spread in time, which other
            work on the machine is less likely to disturb all of.

    Attributes:
        table: The table as far as it is.

    Raises:
        ConfigError: A setting that blocks cannot be measured in, a folder that is not there, or a file that holds
            something else; also of another space, supernet, setting or device.
        SupernetError: The family does not tell its blocks; the message lists those that do.
    """

    net: Supernet
    setting: LatencySetting
    path: Path
    networks: Rows
    passes: int = 1
    table: LatencyTable = field(init=False)

    def __post_init__(self) -> None:
        _check_setting(self.setting)
        if not self.path.parent.is_dir():
            raise ConfigError(f"--table {self.path}: the folder {self.path.parent} does not exist; make it first")
        self.table, self._blocks = plan_table(self.net, self.setting)
        self._load()

    def _load(self) -> None:
        """Go on with what the file has, where there is one."""
        if not self.path.exists():
            return
        found = LatencyTable.load(self.path)
        if reason := found.difference(self.table):
            raise ConfigError(
                f"--table {self.path} cannot be continued: {reason}. Figures that cannot be compared never mix; "
                "give another file"
            )
        self.table = found

    def steps(self) -> list[Step]:
        """Return what is left to measure: in each pass the overhead of a call, blocks, networks."""
        table, rows = self.table, list(dict.fromkeys(map(tuple, self.networks.tolist())))

        def due(timing: Timing | None, number: int) -> bool:
            return timing is None or timing.passes < number

        steps = []
        for number in range(1, self.passes + 1):
            if due(table.overhead, number):
                steps.append(Step("call of a module that does nothing", self._overhead))
            steps += [Step(key, partial(self._block, key)) for key in table.keys if due(table.blocks.get(key), number)]
            steps += [
                Step(f"network {i}", partial(self._network, row), network=True)
                for i, row in enumerate(rows, start=1)
                if due(table.networks.get(row), number)
            ]
        return steps

    def probe(self) -> float:
        """Measure a few of the steps left, without keeping them, and return the predicted seconds of all.

        Raises:
            RunFolderError: Another process measures into the file: both would time the other's work.
        """
        check_file_is_free(self.path)
        steps = self.steps()
        if not steps:
            return 0.0
        chosen = sorted({round(i) for i in np.linspace(0, len(steps) - 1, _PROBES)})
        seconds = []
        for i in chosen:
            started = time.monotonic()
            steps[i].measure(self.table)
            seconds.append(time.monotonic() - started)
        return float(np.median(seconds)) * len(steps)  # the first one may bring imports

    def run(self) -> Iterator[tuple[Step, Timing]]:
        """Measure what is left; every figure is on the disk before the next one is taken.

        Yields:
            Each step and its figure.

        Raises:
            ConfigError: Another process measures into the file, or put something else there.
        """
        with locked_file(self.path):
            self._load()  # another process may have gone on with it since
            for step in self.steps():
                timing, self.table = step.measure(self.table)
                self.table.save(self.path)
                yield step, timing

    def _overhead(self, table: LatencyTable) -> tuple[Timing, LatencyTable]:
        import torch

        timing = _timed(torch.nn.Identity(), (torch.zeros(self.setting.batch, 1),), self.setting)
        return timing, table.with_overhead(timing)

    def _block(self, key: str, table: LatencyTable) -> tuple[Timing, LatencyTable]:
        timing = _timed(*self._blocks[key].make(self.setting.batch), self.setting)
        return timing, table.with_block(key, timing)

    def _network(self, row: tuple[int, ...], table: LatencyTable) -> tuple[Timing, LatencyTable]:
        arch = self.net.space.decode(np.array([row], dtype=np.int64))[0]
        module, inputs = self.net.extract(arch).eval(), self.net.example_inputs(arch, self.setting.batch)
        timing = _timed(module, inputs, self.setting)
        return timing, table.with_network(row, timing)


def _timed(module: Any, inputs: Any, setting: LatencySetting) -> Timing:
    from predictors.measurement import measure_undisturbed

    latency, _ = measure_undisturbed(module, inputs, setting)
    return Timing(latency.median_ms, latency.iqr_ms, latency.n)


def plan_table(net: Supernet, setting: LatencySetting) -> tuple[LatencyTable, Mapping[str, Block]]:
    """Return the table of a supernet without any measurement, and its distinct blocks by key.

    Args:
        net: The supernet.
        setting: How it is to be measured.

    Raises:
        SupernetError: The family does not tell its blocks; the message lists those that do.
    """
    from predictors import describe_device

    numbers: dict[str, int] = {}
    blocks: dict[str, Block] = {}
    slots = []
    for slot in net.block_slots():
        states = []
        for block in slot.states(net.space):
            if block is not None:
                blocks.setdefault(block.key, block)
            states.append(-1 if block is None else numbers.setdefault(block.key, len(numbers)))
        slots.append(Slot(slot.name, slot.genes, tuple(states)))
    return LatencyTable(net.space, setting, describe_device(setting), tuple(numbers), tuple(slots)), blocks


def _check_setting(setting: LatencySetting) -> None:
    """Refuse a setting that cannot run here, or that names shapes: those of blocks are the space's own."""
    from predictors.backends import make_backend

    shapes = [name for name in ("resolution", "sequence") if getattr(setting, name) is not None]
    if shapes:
        raise ConfigError(
            f"--latency {setting}: blocks have the shapes that the space gives them; leave {' and '.join(shapes)} out"
        )
    if reason := make_backend(setting.backend).available(setting.device):
        raise ConfigError(f"--latency {setting} cannot be measured: {reason}")


def table_quality(table: LatencyTable) -> dict[str, Quality]:
    """Return how well the sums predict the measured networks of a complete table, as they are and by a line.

    Returns:
        ``"sum"`` and ``"line"`` -> quality; empty with fewer than 4 networks. That of the line is cross-validated.
    """
    from predictors.models.table import TablePredictor

    if len(table.networks) < 4 or not table.complete:
        return {}
    X = table.space.features(np.array(list(table.networks), dtype=np.int64))
    y = np.array([timing.median_ms for timing in table.networks.values()])
    ways = {"sum": "none", "line": "line"}
    return {name: TablePredictor(table=table, correction=way).fit(X, y).quality for name, way in ways.items()}


def quality_text(quality: Quality) -> str:
    """Return rank correlation and error in words."""
    tau = "no rank correlation" if math.isnan(quality.kendall_tau) else f"Kendall tau {quality.kendall_tau:.3f}"
    return f"{tau}, MAPE {quality.mape:.1f} %"
