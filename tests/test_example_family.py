"""The example of the user guide is a family in good standing, and can be searched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))

import elastic_mlp  # noqa: E402

from supernets import Supernet, build  # noqa: E402
from supernets.conformance import SupernetConformance  # noqa: E402


class TestElasticMLP(SupernetConformance):
    def make(self) -> Supernet:
        return elastic_mlp.ElasticMLP(in_features=12, num_classes=5)


def test_it_can_be_searched(tmp_path: Path) -> None:
    import nassearch
    from nassearch.console import make_console

    run = nassearch.run(
        {
            "plugins": ["elastic_mlp"],
            "space": "elastic-mlp",
            "task": "digits",
            "objectives": ["top1:max", "macs_m:min"],
            "num_evals": 12,
            "strategy": "random",
            "train": {"settings": {"epochs": 2}},
            "export": {"format": "none"},
            "out": tmp_path / "run",
        },
        console=make_console(quiet=True),
    )
    assert len(run.records) == 12
    assert all(r.status == "ok" for r in run.records)
    assert build("elastic-mlp").space.n_distinct == 3 + 9 + 27


if __name__ == "__main__":
    pytest.main([__file__])
