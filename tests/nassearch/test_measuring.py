"""Measuring a space block by block: the command, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nassearch import measuring
from nassearch.cli import _run
from nassearch.folders import locked_file
from nassearch.measuring import TableMeasurement, plan_table, table_quality
from predictors import LatencySetting, LatencyTable
from predictors.latency_table import Timing
from supernets import Supernet, blocks_of, build

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))

SETTING = "cpu:eager,threads=1,budget_ms=5"
FLAGS = ("--plugin", "elastic_mlp", "--space", "elastic-mlp", "--latency", SETTING)

Call = Callable[..., str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: object, code: int = 0) -> str:
        found = _run([str(a) for a in argv], debug=False)
        out, error = capsys.readouterr()
        assert found == code, out + error
        return out if code == 0 else error

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measurements that take no time: 1 ms for every module, counted."""
    taken: list[str] = []

    def timed(module: object, inputs: object, setting: object) -> Timing:
        taken.append(type(module).__name__)
        return Timing(1.0 + len(taken) / 100, 0.01, 5)

    monkeypatch.setattr(measuring, "_timed", timed)
    return taken


def mlp() -> Supernet:
    import elastic_mlp

    return elastic_mlp.elastic_mlp()


def by_hand(table: LatencyTable, net: Supernet, rows: np.ndarray) -> list[float]:
    assert table.overhead is not None
    call, sums = table.overhead.median_ms, []
    for arch in net.space.decode(rows):
        sums.append(call + sum(max(table.blocks[b.key].median_ms - call, 0) for b in blocks_of(net, arch)))
    return sums


def no_rows(net: Supernet) -> np.ndarray:
    return np.empty((0, len(net.space.genes)), dtype=np.int64)


def test_a_table_is_measured_and_predicts_every_network(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mlp.json"
    out = call("measure", *FLAGS, "--table", path, "--architectures", 6, "--seed", 1)
    assert "elastic-mlp has 15 distinct blocks" in out
    assert re.search(r"to measure: 16 blocks and 6 networks, about \d+", out)
    assert re.search(r"sums of blocks: .* over 6 measured networks", out)
    table = LatencyTable.load(path)
    assert not table.missing
    assert all(0 < t.median_ms < 100 and t.n >= 10 for t in table.blocks.values())
    net = mlp()
    rows = net.space.enumerate()
    assert rows is not None
    np.testing.assert_allclose(table.predict(rows)[0], by_hand(table, net, rows))
    assert "nothing" not in call("measure", *FLAGS, "--table", path)  # nothing is left: the same table
    assert LatencyTable.load(path) == table


@pytest.mark.parametrize("name", ["mobilenetv3-tiny", "ofa-mobilenetv3-w1.0"])
def test_sums_of_random_networks_are_those_of_their_blocks(name: str) -> None:
    net = build(name)
    table, blocks = plan_table(net, LatencySetting.parse(SETTING))
    assert set(blocks) == set(table.keys)
    for number, key in enumerate(table.keys):
        table = table.with_block(key, Timing(1 + number**1.5, 0.1, 5))
    rows = net.space.sample(30, np.random.default_rng(0))
    table = table.with_overhead(Timing(0.5, 0.1, 5))
    np.testing.assert_allclose(table.predict(rows)[0], by_hand(table, net, rows))


def test_an_interrupted_table_goes_on_and_ends_as_if_it_had_not_been(quick: list[str], tmp_path: Path) -> None:
    net, setting = mlp(), LatencySetting.parse(SETTING)
    rows = net.space.sample(4, np.random.default_rng(0))
    whole = TableMeasurement(net, setting, tmp_path / "whole.json", rows)
    assert len(list(whole.run())) == len(quick) == 20
    quick.clear()
    stopped = TableMeasurement(net, setting, tmp_path / "t.json", rows)
    steps = stopped.run()
    for _ in range(7):
        next(steps)
    steps.close()
    assert len(LatencyTable.load(tmp_path / "t.json").blocks) == 6
    again = TableMeasurement(net, setting, tmp_path / "t.json", rows)
    assert len(again.steps()) == 13
    for _ in again.run():
        pass
    assert len(quick) == 20
    assert LatencyTable.load(tmp_path / "t.json") == LatencyTable.load(tmp_path / "whole.json")
    assert TableMeasurement(net, setting, tmp_path / "t.json", rows).steps() == []


def test_two_that_measure_into_one_file_lose_no_figures(quick: list[str], call: Call, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    first, second = (TableMeasurement(mlp(), LatencySetting.parse(SETTING), path, no_rows(mlp())) for _ in range(2))
    steps = first.run()
    for _ in range(3):
        next(steps)
    assert "t.json is in use by another process" in call("measure", *FLAGS, "--table", path, code=2)
    assert len(list(steps)) == 13
    assert list(second.run()) == []  # it was made before the first one began
    assert LatencyTable.load(path) == first.table == second.table


def test_of_several_passes_the_fastest_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = iter([3.0] * 18 + [1.0] * 18 + [2.0] * 18)
    monkeypatch.setattr(measuring, "_timed", lambda *_: Timing(next(figures), 0.1, 5))
    net, setting = mlp(), LatencySetting.parse(SETTING)
    rows = net.space.sample(2, np.random.default_rng(0))
    work = TableMeasurement(net, setting, tmp_path / "t.json", rows, passes=2)
    names = [step.name for step, _ in work.run()]
    assert names[:18] == names[18:]
    assert {t.passes for t in work.table.blocks.values()} == {2}
    third = TableMeasurement(net, setting, tmp_path / "t.json", rows, passes=3)
    assert len(list(third.run())) == 18
    table = LatencyTable.load(tmp_path / "t.json")
    timings = [*table.blocks.values(), *table.networks.values(), table.overhead]
    assert timings == [Timing(1.0, 0.1, 5, passes=3)] * 18


def test_a_dry_run_writes_nothing(call: Call, tmp_path: Path) -> None:
    out = call("measure", *FLAGS, "--table", tmp_path / "t.json", "--dry-run")
    assert "15 distinct blocks" in out
    assert "dry run: nothing is written" in out
    data = json.loads(call("measure", *FLAGS, "--table", tmp_path / "t.json", "--dry-run", "--json"))
    assert data["blocks"] == 15
    assert data["measured"] == 0
    assert data["predicted_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_summary_as_json(call: Call, tmp_path: Path) -> None:
    data = json.loads(call("measure", *FLAGS, "--table", tmp_path / "t.json", "--architectures", 5, "--json"))
    assert data["measured"] == data["blocks"] == 15
    assert data["networks"] == data["quality"]["sum"]["n"] == 5
    assert data["device"]["fingerprint"] == LatencyTable.load(tmp_path / "t.json").device.fingerprint


def test_a_table_needs_networks_to_be_judged(quick: list[str], tmp_path: Path) -> None:
    net = mlp()
    work = TableMeasurement(net, LatencySetting.parse(SETTING), tmp_path / "t.json", no_rows(net))
    for _ in work.run():
        pass
    assert table_quality(work.table) == {}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--space", "mobilenet-tiny"), "did you mean"),
        ((), "no space is given"),
        (("--space", "mobilenetv3-tiny", "--latency", "cpu:abacus"), "abacus"),
        (("--space", "mobilenetv3-tiny", "--latency", "cpu:eager,resolution=16"), "leave resolution out"),
        (("--space", "mobilenetv3-tiny", "--set", "num_evals=3"), "only model_options"),
        (("--space", "mobilenetv3-tiny", "--set", "model_options.classes=3"), "has no option 'classes'"),
        (("--space", "mobilenetv3-tiny", "--supernet", "nowhere"), "--supernet nowhere does not exist"),
        (("--space", "mobilenetv3-tiny", "--checkpoint", "no.pth"), "--checkpoint no.pth does not exist"),
        (("--space", "mobilenetv3-tiny", "--plugin", "no_such_module"), "no_such_module"),
    ],
)
def test_bad_flags_are_refused_before_any_work(
    call: Call, quick: list[str], tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    assert message in call("measure", *flags, "--table", tmp_path / "t.json", code=2)
    assert list(tmp_path.iterdir()) == []
    assert quick == []


def test_files_that_are_no_table_of_this_are_left_alone(call: Call, quick: list[str], tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert "the folder" in call("measure", *FLAGS, "--table", tmp_path / "no" / "t.json", code=2)
    path.write_text("my notes")
    assert "cannot be read as JSON" in call("measure", *FLAGS, "--table", path, code=2)
    assert path.read_text() == "my notes"
    call("measure", "--space", "mobilenetv3-tiny", "--latency", SETTING, "--table", tmp_path / "tiny.json")
    said = call("measure", *FLAGS, "--table", tmp_path / "tiny.json", code=2)
    assert "cannot be continued: it is of space 'mobilenetv3-tiny'" in said
    path.unlink()
    call("measure", *FLAGS, "--table", path)
    assert "not cpu:eager,batch=4" in call("measure", *FLAGS[:-1], "cpu:eager,batch=4", "--table", path, code=2)
    assert "other blocks" in call("measure", *FLAGS, "--set", "model_options.num_classes=3", "--table", path, code=2)
    table = LatencyTable.load(path)
    replace(table, device=replace(table.device, cpu="Another CPU")).save(path)
    assert "another device (cpu Another CPU, not" in call("measure", *FLAGS, "--table", path, code=2)


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_table_in_use_is_refused_before_anything_is_timed(
    call: Call, quick: list[str], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    path = tmp_path / "t.json"
    with locked_file(path):
        assert "in use by another process" in call("measure", *FLAGS, "--table", path, *flags, code=2)
    assert quick == []
    call("measure", *FLAGS, "--table", path, "--dry-run")
    assert len(quick) == 3


def test_a_family_without_blocks_says_so(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import elastic_mlp

    monkeypatch.delattr(elastic_mlp.ElasticMLP, "block_slots")
    said = call("measure", *FLAGS, "--table", tmp_path / "t.json", code=2)
    assert "'elastic-mlp' does not tell its blocks" in said
    assert "families that do: mobilenetv3" in said


def test_the_supernet_of_a_run_gives_its_own_blocks(call: Call, quick: list[str], run_folder: Path) -> None:
    path = run_folder / "t.json"
    call("measure", "--supernet", run_folder / "supernet", "--latency", SETTING, "--table", path)
    assert LatencyTable.load(path).space.name == "mobilenetv3-tiny"
    flags = ("--space", "ofa-mobilenetv3-w1.0", "--supernet", run_folder / "supernet", "--table", path)
    assert "leave --space out" in call("measure", *flags, code=2)
