"""One finished run on a tiny Mixture-of-Experts model, shared by the tests of what comes after it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `expert_runs`, which makes the run

from expert_runs import make_expert_run

from nassearch.runs import Run


@pytest.fixture(scope="session")
def expert_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run; nothing in it may be changed."""
    return make_expert_run(tmp_path_factory.mktemp("olmoe"))
