"""Where evaluations run does not change the search: local, Ray with one worker, Ray with two workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nassearch
from nassearch.console import make_console
from nassearch.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def local(finished: Path, small_task: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of the search, and what it finds in this process."""
    settings = {
        "space": "mobilenetv3-tiny",
        "task": small_task,
        "objectives": ["top1:max", "macs_m:min"],
        "constraints": ["top1 >= 1"],
        "num_evals": 24,
        "batch_size": 7,
        "seed": 2,
        "supernet": str(finished / "supernet"),
        "export": {"format": "none"},
    }
    return {"settings": settings, "found": _search(settings, tmp_path_factory.mktemp("local") / "run", "local", 1)}


def _search(settings: dict[str, Any], folder: Path, executor: str, workers: int) -> dict[str, Any]:
    place = {"name": executor, "num_workers": workers, "timeout_s": 300}
    run = nassearch.run(settings | {"out": str(folder), "executor": place}, console=make_console(quiet=True))
    store = run.open_store()
    try:
        proposals, outcomes, finals = store.proposals(), store.outcomes(), store.finals()
    finally:
        store.close()
    assert all(o.status == "ok" for o in outcomes.values())
    return {
        "proposals": proposals,  # rows, batches, and what the strategy predicted
        "values": {i: outcomes[i].values for i in proposals},
        "finals": finals,
        "front": [r.id for r in run.front],
        "bounds": run.bounds,
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_finds_what_the_local_executor_finds_bit_for_bit(
    local: dict[str, Any], tmp_path: Path, workers: int
) -> None:
    found = _search(local["settings"], tmp_path / "run", "ray", workers)
    assert len(found["proposals"]) == 24
    assert found == local["found"]


def test_a_search_may_move_to_ray_and_back(local: dict[str, Any], tmp_path: Path) -> None:
    settings = local["settings"] | {"num_evals": 10}
    _search(settings, tmp_path / "run", "local", 1)
    nassearch.resume(
        tmp_path / "run", num_evals=17, executor={"name": "ray", "num_workers": 2}, console=make_console(quiet=True)
    )
    nassearch.resume(tmp_path / "run", num_evals=24, console=make_console(quiet=True))
    run = Run(tmp_path / "run")
    # Its first batches are those of the shorter budget (7 + 3), so the rest may differ; nothing is repeated.
    assert [r.id for r in run.records] == list(range(1, 25))
    assert len({r.row for r in run.records}) == 24
