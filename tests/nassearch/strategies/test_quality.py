"""The search on a measured table: OFA MobileNetV3's accuracy model and a phone's block latencies."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"

pytestmark = [
    pytest.mark.needs_shared,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is absent: real tables are not part of the project"),
]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("strategy_quality", ROOT / "benchmarks" / "strategy_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_reproduces_the_reference_front(bench: ModuleType) -> None:
    """The fastest network's latency and the front's ideal come from the same table."""
    problem = bench.OfaPhone(DATA)
    fastest = problem.evaluate(problem.space.smallest[None])[0, 1]
    assert fastest == pytest.approx(problem.ideal[1], rel=1e-6)


def test_linas_needs_a_quarter_of_the_evaluations_of_nsga2(bench: ModuleType) -> None:
    problem = bench.OfaPhone(DATA)

    def at_the_end(strategy: str, evaluations: int) -> float:
        runs = [list(bench.run(problem, strategy, s, evaluations, 10, [evaluations], {})) for s in range(3)]
        return float(np.median([r[-1][1] for r in runs]))

    linas = at_the_end("linas", 100)
    assert linas >= 0.77
    assert linas > at_the_end("nsga2", 400)
