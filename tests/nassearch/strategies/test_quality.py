"""The search on a measured table: OFA MobileNetV3's accuracy model and a phone's block latencies."""

from pathlib import Path

import pytest

from nassearch.bench import bench

pytestmark = [pytest.mark.needs_shared, pytest.mark.slow]


def test_linas_needs_a_quarter_of_the_evaluations_of_nsga2(shared_data: Path) -> None:
    problem = f"ofa-mobilenetv3:{shared_data / 'ofa_mobilenetv3'}"

    def at_the_end(strategy: str, evaluations: int) -> float:
        return (
            bench([problem], [strategy], seeds=3, budget=evaluations, checkpoints=[evaluations])
            .comparison()[0]
            .score[1]
        )

    linas = at_the_end("linas", 100)
    assert linas >= 0.77
    assert linas > at_the_end("nsga2", 400)
