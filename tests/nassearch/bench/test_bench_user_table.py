"""A user's own table: both formats, and what is said about malformed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nassearch.bench import make_problem
from nassearch.errors import ConfigError, DataError
from search_spaces import SearchSpace


def write(data: Any, path: Path) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_json(table_file: Path, columns: dict[str, Any]) -> None:
    problem = make_problem(f"table:{table_file}")
    assert problem.name == "mine"
    np.testing.assert_allclose(problem.evaluate(columns["rows"])["top1"], columns["top1"])


def test_npz_and_architectures_are_the_same_table(data: dict[str, Any], space: SearchSpace, tmp_path: Path) -> None:
    meta = {k: data[k] for k in ("space", "objectives")}
    np.savez(
        tmp_path / "mine.npz",
        genotypes=np.array(data["genotypes"], dtype=np.int8),
        meta=np.array(json.dumps(meta)),
        **{f"metrics.{k}": np.array(v) for k, v in data["metrics"].items()},
    )
    readable = data | {"architectures": space.decode(np.array(data["genotypes"]))}
    del readable["genotypes"]
    specs = [write(data, tmp_path / "mine.json"), tmp_path / "mine.npz", write(readable, tmp_path / "names.json")]
    assert len({make_problem(f"table:{path}").fingerprint for path in specs}) == 1


def test_null_is_a_failed_evaluation(data: dict[str, Any], tmp_path: Path) -> None:
    data["metrics"]["top1"][3] = None
    problem = make_problem(f"table:{write(data, tmp_path / 't.json')}")
    assert np.isnan(problem.evaluate(np.array(data["genotypes"][3:4]))["top1"][0])


def test_registered_spaces_go_by_name(tmp_path: Path) -> None:
    from search_spaces import get_space

    rows = get_space("mobilenetv3-tiny").sample(50, np.random.default_rng(0))
    data = {"space": "mobilenetv3-tiny", "genotypes": rows.tolist(), "metrics": {"a": list(range(50))},
            "objectives": ["a:max"], "missing": "nearest", "name": "named"}  # fmt: skip
    assert make_problem(f"table:{write(data, tmp_path / 't.json')}").name == "named"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectivs": []}, "unknown key 'objectivs'; did you mean 'objectives'"),
        ({"metrics": None}, "'metrics' must map"),
        ({"genotypes": None}, "genotypes' must be"),
        ({"architectures": []}, "exactly one of"),
        ({"genotypes": [[0, 1], [0]]}, "genotypes' must be"),
        ({"genotypes": [[0.5] * 5] * 216}, "genotypes' must be integers"),
        ({"genotypes": [[9] * 5] * 216}, "choice indices 0..1"),
        ({"metrics": {"top1": ["high"] * 216, "latency_ms": [1] * 216}}, "metric 'top1' must be numbers"),
        ({"metrics": {"top1": [1, 2], "latency_ms": [1, 2]}}, r"shape \[2\]"),
        ({"space": "no-such-space"}, "no-such-space"),
        ({"space": {"name": "x"}}, "not a search space"),
        ({"space": {"name": "x", "genes": [3]}}, "is no search space"),
        ({"objectives": "top1:max"}, "'objectives' must be a list"),
        ({"objectives": ["top1"]}, "has no direction"),
        ({"objectives": ["top5:max"]}, "no metric 'top5'; did you mean 'top1'"),
        ({"report": {"top1": "test"}}, "no metric 'test'"),
        ({"analytic": ["params"]}, "no metric 'params'"),
        ({"constraints": ["latency_ms is low"]}, "has no comparison"),
    ],
)
def test_malformed_tables(data: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_problem(f"table:{write(data | change, tmp_path / 't.json')}")


def test_all_faults_come_together(data: dict[str, Any], tmp_path: Path) -> None:
    del data["metrics"], data["genotypes"]
    with pytest.raises(DataError, match=r"'metrics' is missing(.|\n)*exactly one"):
        make_problem(f"table:{write(data, tmp_path / 't.json')}")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", genotypes=np.array([{"a": 1}], dtype=object), meta=np.array("{}"))
    with pytest.raises(DataError, match="without pickled objects"):
        make_problem(f"table:{tmp_path / 't.npz'}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", b"{", "is not JSON"),
        ("t.json", b"[1]", "a JSON object is needed"),
        ("t.json", b"\xff\xfe", "is not JSON"),
        ("t.npz", b"no zip", "cannot read"),
        ("t.csv", b"a,b", "ends in .json or .npz"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        make_problem(f"table:{tmp_path / name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tables:x.json", "did you mean 'table'"),
        ("table", "names no file"),
        ("table:", "names no file"),
        ("table:/nowhere/x.json", "/nowhere/x.json does not exist"),
        ("nas-bench-201:.,devices=x", "did you mean 'device'"),
        ("nas-bench-201:.,device", "'device' is no option"),
        ("nas-bench-201:.,device=a,device=b", "gives 'device' twice"),
        ("nas-bench-201:.", "has no accuracy.npz, latency_ms.npz"),
    ],
)
def test_specifications(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_problem(text)
