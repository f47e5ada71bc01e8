"""The table and the example of the user guide work as they are written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from nassearch.bench import list_readers, make_problem
from nassearch.bench.user_table import _KEYS

PAGE = Path(__file__).parents[3] / "docs" / "user-guide" / "choosing-a-strategy.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_table_and_the_example_of_the_guide(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(block("json"))
    problem = make_problem(f"table:{tmp_path / 'mine.json'}")
    assert problem.space.n_distinct == 6
    assert np.isnan(problem.evaluate(problem.space.largest[None])["top1"][0])
    done = subprocess.run(
        [sys.executable, "-c", block("python")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("nsga2 5 ")


def test_the_guide_names_every_problem_and_key() -> None:
    text = PAGE.read_text()
    assert [n for n in list_readers() if f"`{n}:" not in text] == []
    assert [k for k in _KEYS if f"`{k}`" not in text] == []
