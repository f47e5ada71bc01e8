"""Latencies of blocks, measured once, from which those of all networks of a space are summed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predictors.device import DeviceIdentity
from predictors.errors import LatencyTableError, PredictorsError
from predictors.measurement.setting import LatencySetting
from search_spaces import SearchSpace, SearchSpaceError

if TYPE_CHECKING:
    from predictors.base import Predictor

Floats = NDArray[np.float64]

FORMAT = "nassearch-latency-table"
VERSION = 1

_IQR_OF_NORMAL = 1.349  # interquartile range of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Timing:
    """What was measured of a module.

    Attributes:
        median_ms: Median of all samples in ms.
        iqr_ms: Distance of the quartiles in ms.
        n: Number of samples.
        passes: How often it was measured, at different times; the figure is that of the fastest pass.
    """

    median_ms: float
    iqr_ms: float
    n: int
    passes: int = 1

    def merged(self, other: Timing | None) -> Timing:
        """Return the faster one, with the passes of both: other work on the machine only ever adds time."""
        if other is None:
            return self
        fastest = min(self, other, key=lambda one: one.median_ms)
        return replace(fastest, passes=self.passes + other.passes)


@dataclass(frozen=True)
class Slot:
    """A place in the network, and which block stands there.

    Attributes:
        name: What to call it.
        genes: Names of the genes that decide.
        states: Number of the block, an index of `LatencyTable.keys`, for every combination of the genes' choices, the
            last gene fastest; -1 where the place is empty.
    """

    name: str
    genes: tuple[str, ...]
    states: tuple[int, ...]


@dataclass(frozen=True)
class LatencyTable:
    """Latency of every block of a space in one setting on one device; a network costs the sum of its blocks.

    What any call costs, however little it computes, is in the figure of every block but only once in that of a
    network: of each block counts what is above the overhead of a call. That is most of a small block's time in ONNX
    Runtime.

    The file holds everything that predicting needs, the space included. Figures of different devices never mix: a
    table has one device.

    Args:
        space: The search space.
        setting: How the blocks were, or are to be, measured.
        device: Where.
        keys: Names of the distinct blocks.
        slots: The places of a network.
        overhead: What a call of a module that does nothing costs; None before it is measured.
        blocks: Key -> measurement, of the blocks measured so far.
        networks: Row -> measurement of whole networks, to judge and to correct the sums with.

    Raises:
        LatencyTableError: Slots, keys and space do not fit together.

    Example:
        >>> table = LatencyTable.load("table.json")  # doctest: +SKIP
        >>> mean_ms, std_ms = table.predict(table.space.sample(1000, rng))  # doctest: +SKIP
    """

    space: SearchSpace
    setting: LatencySetting
    device: DeviceIdentity
    keys: tuple[str, ...]
    slots: tuple[Slot, ...]
    overhead: Timing | None = None
    blocks: Mapping[str, Timing] = field(default_factory=dict)
    networks: Mapping[tuple[int, ...], Timing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {g.name: len(g.choices) for g in self.space.genes}
        for slot in self.slots:
            unknown = [g for g in slot.genes if g not in sizes]
            if unknown:
                raise LatencyTableError(f"slot {slot.name!r} names genes that the space has not: {', '.join(unknown)}")
            wanted = int(np.prod([sizes[g] for g in slot.genes], dtype=np.int64))
            if len(slot.states) != wanted:
                raise LatencyTableError(f"slot {slot.name!r} has {len(slot.states)} states, its genes have {wanted}")
            if slot.states and not -1 <= min(slot.states) <= max(slot.states) < len(self.keys):
                raise LatencyTableError(f"slot {slot.name!r} names blocks beyond the {len(self.keys)} of the table")
        stray = sorted(set(self.blocks) - set(self.keys))
        if stray:
            raise LatencyTableError(f"measured blocks that are in no slot: {', '.join(stray[:3])}")
        measured = {f"block {key!r}": timing for key, timing in self.blocks.items()}
        measured |= {f"network {list(row)}": timing for row, timing in self.networks.items()}
        if self.overhead is not None:
            measured["a call that does nothing"] = self.overhead
        for what, t in measured.items():
            if not (np.isfinite(t.median_ms) and t.median_ms > 0):
                raise LatencyTableError(f"the latency of {what} is {t.median_ms} ms")
            if not (np.isfinite(t.iqr_ms) and t.iqr_ms >= 0):
                raise LatencyTableError(f"the spread of the latency of {what} is {t.iqr_ms} ms")

    # -- growing -------------------------------------------------------------------------------------

    @property
    def missing(self) -> list[str]:
        """Keys of the blocks that are not measured yet, in order."""
        return [key for key in self.keys if key not in self.blocks]

    @property
    def complete(self) -> bool:
        """Whether everything that predicting needs is measured."""
        return self.overhead is not None and not self.missing

    def with_overhead(self, timing: Timing) -> LatencyTable:
        """Return the table with a further measurement of the overhead of a call."""
        return replace(self, overhead=timing.merged(self.overhead))

    def with_block(self, key: str, timing: Timing) -> LatencyTable:
        """Return the table with a further measurement of a block."""
        return replace(self, blocks={**self.blocks, key: timing.merged(self.blocks.get(key))})

    def with_network(self, row: Sequence[int], timing: Timing) -> LatencyTable:
        """Return the table with a further measurement of a network."""
        key = tuple(int(i) for i in row)
        return replace(self, networks={**self.networks, key: timing.merged(self.networks.get(key))})

    def without_networks(self) -> LatencyTable:
        """Return the blocks alone."""
        return replace(self, networks={})

    def difference(self, other: LatencyTable) -> str | None:
        """Return why measurements of another table do not belong in this one; None where they do."""
        if self.space.identity != other.space.identity:
            return f"it is of space {_space(self.space)}, not {_space(other.space)}"
        return self.elsewhere(other.setting, other.device) or (
            None if (self.keys, self.slots) == (other.keys, other.slots) else "its supernet has other blocks"
        )

    def elsewhere(self, setting: LatencySetting, device: DeviceIdentity) -> str | None:
        """Return why figures of a setting and device are not comparable with the table's; None where they are."""
        ours, theirs = (replace(s, name=None, budget_ms=None) for s in (self.setting, setting))
        if ours != theirs:
            return f"it was measured with {ours}, not {theirs}"
        if self.device.fingerprint != device.fingerprint:
            here, there = asdict(self.device), asdict(device)
            parts = [f"{k} {here[k]}, not {there[k]}" for k in here if k != "os" and here[k] != there[k]]
            return f"it was measured on another device ({'; '.join(parts)})"
        return None

    # -- predicting ----------------------------------------------------------------------------------

    @cached_property
    def _lookups(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]]:
        """Columns and strides of each slot's genes, milliseconds and variance of each of its states."""
        if self.overhead is None or self.missing:
            lacking = "" if self.overhead is not None else " and not the overhead of a call"
            raise LatencyTableError(
                f"the table has {len(self.blocks)} of {len(self.keys)} blocks{lacking}; go on measuring with the same "
                "`nassearch measure --table FILE` first"
            )
        timings = [self.blocks[key] for key in self.keys]
        # The last entry is that of empty places, which -1 finds.
        ms = np.array([*(max(t.median_ms - self.overhead.median_ms, 0.0) for t in timings), 0.0])
        variance = np.array([*((t.iqr_ms / _IQR_OF_NORMAL) ** 2 for t in timings), 0.0])
        found = []
        for slot in self.slots:
            columns = np.array([self.space.column(name) for name in slot.genes], dtype=np.int64)
            sizes = self.space.n_choices[columns] if len(columns) else np.ones(0, dtype=np.int64)
            strides = np.append(np.cumprod(sizes[::-1])[::-1], 1)[1:]
            states = np.array(slot.states, dtype=np.int64)
            found.append((columns, strides, ms[states], variance[states]))
        return found

    def predict(self, G: ArrayLike) -> tuple[Floats, Floats]:
        """Sum the blocks of each network.

        Args:
            G: Rows of choice indices, int ``[n, n_genes]``.

        Returns:
            Sum of the blocks' medians with the overhead of one call, and the standard deviation of that sum by the
            spread of the blocks' samples; float64 ``[n]`` each, in ms.

        Raises:
            LatencyTableError: Blocks are missing, or the rows are not of the space.
        """
        try:
            rows = self.space.canonical(np.asarray(G))
        except SearchSpaceError as error:
            raise LatencyTableError(str(error)) from error
        lookups = self._lookups
        assert self.overhead is not None  # noqa: S101  (the look-ups have seen it)
        mean, variance = np.full(len(rows), self.overhead.median_ms), np.zeros(len(rows))
        for columns, strides, ms, of_ms in lookups:
            state = rows[:, columns] @ strides if len(columns) else np.zeros(len(rows), dtype=np.int64)
            mean += ms[state]
            variance += of_ms[state]
        return mean, np.sqrt(variance)

    def as_prior(self) -> Predictor:
        """Return the sums as a fitted predictor of the space's features, to give to `Predictor.fit` as ``prior``."""
        from predictors.models.table import TablePredictor

        ends = np.array([self.space.smallest, self.space.largest])
        return TablePredictor(table=self, correction="none").fit(self.space.features(ends), self.predict(ends)[0])

    # -- files ---------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "space": self.space.to_json(),
            "setting": self.setting.to_json(),
            "device": self.device.to_json(),
            "slots": [{"name": s.name, "genes": list(s.genes), "states": list(s.states)} for s in self.slots],
            "keys": list(self.keys),
            "overhead": None if self.overhead is None else asdict(self.overhead),
            "blocks": {key: asdict(timing) for key, timing in self.blocks.items()},
            "networks": [{"row": list(row), **asdict(timing)} for row, timing in self.networks.items()],
        }

    @classmethod
    def from_json(cls, data: Any, source: str = "the table") -> Self:
        """Rebuild a table from `to_json`.

        Args:
            data: The JSON values.
            source: What to call it in errors.

        Raises:
            LatencyTableError: It is no table, of a newer format, or damaged.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise LatencyTableError(f"{source} is no latency table; `nassearch measure --table FILE` writes one")
        if not isinstance(data.get("version"), int) or data["version"] > VERSION:
            raise LatencyTableError(
                f"{source} has format version {data.get('version')!r}; this installation reads up to {VERSION}: "
                "upgrade it"
            )
        try:
            return cls(
                SearchSpace.from_json(data["space"]),
                LatencySetting.from_json(data["setting"]),
                DeviceIdentity.from_json(data["device"]),
                tuple(map(str, data["keys"])),
                tuple(Slot(str(s["name"]), tuple(s["genes"]), tuple(map(int, s["states"]))) for s in data["slots"]),
                None if data.get("overhead") is None else _timing(data["overhead"]),
                {str(key): _timing(t) for key, t in data["blocks"].items()},
                {tuple(map(int, t["row"])): _timing(t) for t in data["networks"]},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = str(error) if isinstance(error, PredictorsError) else f"{type(error).__name__}: {error}"
            raise LatencyTableError(f"{source} is damaged ({what}); measure it again") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON, whole and on the disk when this returns; an older file is replaced."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(self.to_json(), file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; equal to the bit.

        Raises:
            LatencyTableError: Missing, truncated, no table, or of a newer format.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LatencyTableError(
                f"{os.fspath(path)} does not exist; `nassearch measure --table FILE` writes a latency table"
            ) from None
        except (OSError, ValueError) as error:
            raise LatencyTableError(
                f"{os.fspath(path)} cannot be read as JSON ({error}); it is truncated or no latency table: measure it "
                "again"
            ) from error
        return cls.from_json(data, os.fspath(path))


def _timing(data: Mapping[str, Any]) -> Timing:
    return Timing(float(data["median_ms"]), float(data["iqr_ms"]), int(data["n"]), int(data.get("passes", 1)))


def _space(space: SearchSpace) -> str:
    return f"{space.name!r} ({space.identity})"
