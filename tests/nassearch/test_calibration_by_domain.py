"""What a run calibrates a supernet of experts with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from nassearch.sources import _calibration


def calibrated(domains: dict[str, int], size: int, batch_size: int, cap: int = 100) -> Any:
    def batches(n: int, most: int) -> Any:
        return ({"input_ids": part} for part in torch.zeros(n, 4, dtype=torch.long).split(min(most, cap)))

    task = SimpleNamespace(
        inputs_by_domain=lambda _, most: {name: batches(n, most) for name, n in domains.items()},
        calibration_inputs=lambda most, n: ("plain", most, n),
    )
    config = SimpleNamespace(evaluation=SimpleNamespace(calibration_size=size, batch_size=batch_size))
    found: Any = _calibration(config, task)  # type: ignore[arg-type]
    return found


def test_domains_get_equal_shares() -> None:
    found = calibrated({"a": 40, "b": 40, "c": 3}, size=24, batch_size=4)
    assert {name: sum(len(b["input_ids"]) for b in batches) for name, batches in found.items()} == {
        "a": 8,
        "b": 8,
        "c": 3,
    }
    uneven = calibrated({"a": 40, "b": 40}, size=20, batch_size=4)
    assert [sum(len(b["input_ids"]) for b in batches) for batches in uneven.values()] == [10, 10]
    few = calibrated({"a": 40, "b": 40}, size=6, batch_size=16)  # batches as small as a share
    assert {name: [len(b["input_ids"]) for b in batches] for name, batches in few.items()} == {"a": [3], "b": [3]}


def test_batches_that_a_task_makes_smaller_are_counted() -> None:
    """A task caps its batches where the vocabulary is large."""
    found = calibrated({"a": 40, "b": 40}, size=24, batch_size=8, cap=5)
    assert [sum(len(b["input_ids"]) for b in batches) for batches in found.values()] == [12, 12]


def test_one_domain_is_no_domain() -> None:
    assert calibrated({"all": 40}, size=24, batch_size=4) == ("plain", 4, 24)
