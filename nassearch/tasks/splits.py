"""Four disjoint, stratified splits of labelled images, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError, DataError

SPLITS = ("train", "calibration", "search", "report")
Splits = dict[str, NDArray[np.int64]]
_Part = TypeVar("_Part")


def part_of(parts: Mapping[str, _Part], split: str) -> _Part:
    """Return what belongs to a split.

    Raises:
        ConfigError: There is no such split.
    """
    if split not in parts:
        raise ConfigError(f"unknown split {split!r}; allowed are {', '.join(SPLITS)}")
    return parts[split]


def make_splits(
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    sizes: Mapping[str, int | None],
    *,
    n_test: int = 0,
    n_search: int = 0,
    seed: int = 0,
    items: str = "images",
) -> Splits:
    """Divide items among train, calibration, search and report; every class is in each.

    Without a test set, by default, 20 % are for report, 20 % (at most 5,000) for search, 5 % (at most 1,000)
    for calibration and the rest for training. With one, report is the test set (at most 10,000 images) and
    search is 10 % of the rest; with a validation set, search is that (at most 5,000). Class shares are kept to one
    item.

    Args:
        labels: int ``[n]`` class of each item; those of the validation set and then of the test set come last.
        class_names: Name of each class.
        sizes: Wanted number of items of each split; None for the default.
        n_test: Number of items in the source's own test set.
        n_search: Number of items in the source's own validation set.
        seed: Seed of the choice.
        items: What they are, for messages.

    Returns:
        Split name -> int64 indices into ``labels``, in a fixed random order.

    Raises:
        DataError: Too few items in all, in a class, or for the sizes asked for; all faults together.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5D1175]))
    pool = np.arange(len(labels) - n_test - n_search)
    own = {"report": np.arange(len(labels) - n_test, len(labels)), "search": len(pool) + np.arange(n_search)}
    own = {name: rows for name, rows in own.items() if len(rows)}
    n_classes = len(class_names)
    wanted = _sizes(len(pool), {name: len(rows) for name, rows in own.items()}, n_classes, sizes)
    _check(labels, class_names, wanted, sizes, pool, own, items)

    splits: Splits = {}
    for name, rows in own.items():
        splits[name], _ = _take(rows, labels, wanted[name], n_classes, 0, rng)
    order = [name for name in ("report", "search", "calibration", "train") if name not in own]
    rest = pool
    for position, name in enumerate(order):
        splits[name], rest = _take(rest, labels, wanted[name], n_classes, len(order) - 1 - position, rng)
    return {name: splits[name] for name in SPLITS}


def _sizes(n: int, own: Mapping[str, int], n_classes: int, given: Mapping[str, int | None]) -> dict[str, int]:
    """Return the size of each split: as given, else the default."""
    shares = {"search": 0.1 if "report" in own else 0.2, "calibration": 0.05, "report": 0.2}
    most = {"search": 5_000, "calibration": 1_000, "report": 10_000}
    sizes = {name: max(n_classes, min(round(n * share), most[name])) for name, share in shares.items()}
    sizes |= {name: min(size, most[name]) for name, size in own.items()}
    sizes.update({name: size for name, size in given.items() if size is not None})
    used = sum(sizes[name] for name in ("search", "calibration", "report") if name not in own)
    sizes.setdefault("train", max(n - used, n_classes))
    return sizes


def _check(
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    wanted: Mapping[str, int],
    given: Mapping[str, int | None],
    pool: NDArray[np.int64],
    own: Mapping[str, NDArray[np.int64]],
    items: str,
) -> None:
    n_classes = len(class_names)
    faults = []
    if n_classes < 2:
        only = f" ({class_names[0]!r})" if class_names else ""
        raise DataError(f"there is only one class{only}; classification needs at least two")
    from_pool = [name for name in SPLITS if name not in own]
    counts = np.bincount(labels[pool], minlength=n_classes)
    for name, count in zip(class_names, counts, strict=True):
        if count < len(from_pool):
            faults.append(
                f"class {name!r} has {count} {items if count != 1 else items[:-1]}; at least {len(from_pool)} are "
                f"needed, one for each of {', '.join(from_pool)}"
            )
    for name in SPLITS:
        if given.get(name) is not None and wanted[name] < n_classes and name not in own:
            faults.append(f"{name}={wanted[name]} is fewer than the {n_classes} classes; give at least {n_classes}")
    needed = sum(wanted[name] for name in from_pool)
    if needed > len(pool):
        listed = " + ".join(f"{wanted[name]} {name}" for name in from_pool)
        faults.append(f"{needed} {items} are needed ({listed}) but there are {len(pool)}; add {items} or give fewer")
    for name, rows in own.items():
        if wanted[name] > len(rows):
            whose = "test" if name == "report" else "validation"
            faults.append(
                f"{name}={wanted[name]} {items} are asked for but the {whose} set has {len(rows)}; give fewer"
            )
    if faults:
        raise DataError(faults[:20] + ([f"… and {len(faults) - 20} more"] if len(faults) > 20 else []))


def _take(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    size: int,
    n_classes: int,
    later: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``size`` rows by class share, leaving ``later`` images of each class; return them and the others."""
    counts = np.bincount(labels[rows], minlength=n_classes)
    most = np.maximum(counts - later, 0)
    exact = size * counts / max(counts.sum(), 1)
    # Every class once, where there is room for it.
    least = np.minimum(1, most) if size >= n_classes else np.zeros_like(most)
    take = np.clip(np.floor(exact).astype(np.int64), least, most)
    while take.sum() != size:
        short = take.sum() < size
        gap = (exact - take) if short else (take - exact)
        gap = np.where(take < most if short else take > least, gap, -np.inf)
        best = int(gap.argmax())
        if not np.isfinite(gap[best]):
            break
        take[best] += 1 if short else -1
    # The uniform stream of a numpy generator is fixed for all versions; those of shuffles are not promised.
    shuffled = rows[np.argsort(rng.random(len(rows)), kind="stable")]
    chosen = np.zeros(len(shuffled), dtype=bool)
    for label in range(n_classes):
        chosen[np.flatnonzero(labels[shuffled] == label)[: take[label]]] = True
    return shuffled[chosen], np.sort(shuffled[~chosen])
