"""`nassearch gap` on a tiny run: what it trains, prints and writes, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nassearch.cli import _run
from nassearch.errors import ConfigError
from nassearch.gap.sample import stratified
from nassearch.gap.scratch import make_recipe
from nassearch.runs import Run
from search_spaces import Gene, SearchSpace

Call = Callable[..., str]
SMALL = ("--architectures", "3", "--epochs", "1")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: object, code: int = 0) -> str:
        found = _run(["gap", *(str(a) for a in argv)], debug=False)
        out, error = capsys.readouterr()
        assert found == code, out + error
        return out if code == 0 else error

    return run


@pytest.fixture(scope="module")
def measured(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a report over three networks. Never write to it."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("gap") / "run"))
    assert _run(["gap", str(folder), *SMALL], debug=False) == 0
    return folder


@pytest.fixture
def again(measured: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(measured, tmp_path / "run"))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "gap.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "source")} for row in csv.DictReader(file)]


def change(folder: Path, **settings: Any) -> None:
    """Change settings of a run's configuration; ``train`` is merged."""
    path = folder / "config.yaml"
    data = yaml.safe_load(path.read_text())
    train = data["train"]
    train["settings"] |= settings.pop("train", {})
    path.write_text(yaml.safe_dump(data | {"train": train} | settings))


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("supernets.training.train", refuse)


# -- what it does ------------------------------------------------------------------------------------


def test_a_report_tells_everything(measured: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    no_training(monkeypatch)
    out = call(measured, *SMALL)
    for text in ("top1: 3 networks", "mean absolute error", "bias", "Kendall's tau", "regret", "number of parameters"):
        assert text in out
    assert (measured / "gap" / "gap.png").read_bytes().startswith(b"\x89PNG")
    assert not list((measured / "gap" / "training").iterdir())
    data = json.loads((measured / "gap" / "gap.json").read_text())
    assert data["architectures"] == 3 == len(data["networks"])
    assert data["settings"]["recipe"]["epochs"] == 1
    errors = [n["inherited"] - n["scratch"] for n in data["networks"]]
    assert data["supernet"]["mae"]["value"] == pytest.approx(np.abs(errors).mean())
    assert data["supernet"]["bias"]["value"] == pytest.approx(np.mean(errors))
    low, high = (data["supernet"]["mae"][k] for k in ("low", "high"))
    assert low <= data["supernet"]["mae"]["value"] <= high
    assert set(data["trivial"]) == {"mae", "kendall_tau", "regret"} == set(data["advantage"])
    assert json.loads(call(measured, *SMALL, "--json"))["supernet"] == data["supernet"]
    assert "loss: 3 networks" in call(measured, *SMALL, "--metric", "loss")


def test_inherited_quality_is_that_of_the_search(again: Path, call: Call) -> None:
    """The rows of networks that the search has seen have its very values."""
    from nassearch.gap.measure import _Measuring

    run = Run(again)
    record = next(r for r in run.records if r.status == "ok")
    recipe = make_recipe(run)
    measuring = _Measuring(run, recipe, run.supernet(), None, np.array([record.row]), {}, None)  # type: ignore[arg-type]
    assert measuring._score(measuring._inherited, record.arch)["top1"] == record.values["top1"]


def test_from_scratch_starts_where_the_supernet_started(measured: Path) -> None:
    import torch

    run = Run(measured)
    first = make_recipe(run).first_weights(run, run.config.seed)
    begun = make_recipe(run).problem.build_supernet()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), begun.parameters(), strict=True))
    random = make_recipe(run, start="random").first_weights(run, 5)
    assert not torch.equal(next(random.parameters()), next(first.parameters()))
    trained = run.supernet()
    assert not torch.equal(next(trained.parameters()), next(first.parameters()))


@pytest.mark.parametrize("start", ["initial", "random"])
def test_from_scratch_does_not_depend_on_the_mixture(finished: Path, tmp_path: Path, start: Any) -> None:
    import torch

    from supernets import load, save
    from supernets.mixture import MixtureSpec

    mixed = Path(shutil.copytree(finished, tmp_path / "mixed"))
    change(mixed, model_options={"mixture": "neuron", "experts": 3, "mixture_options": {"temperature": 0.5}})
    net = load(mixed / "supernet")
    net.mix(MixtureSpec("neuron", 3, temperature=0.5))
    save(net, mixed / "supernet")
    first, plain = (make_recipe(r, start=start).first_weights(r, 1) for r in (Run(mixed), Run(finished)))
    wanted, found = dict(plain.named_parameters()), dict(first.named_parameters())
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_recipe_is_the_runs(measured: Path) -> None:
    run = Run(measured)
    recipe = make_recipe(run)
    assert (recipe.batch_size, recipe.settings.epochs, recipe.start) == (32, 2, "initial")
    assert recipe.settings.lr == run.manifest["training"]["lr"]
    assert make_recipe(run, epochs=7).settings.epochs == 7


# -- going on ----------------------------------------------------------------------------------------


def test_an_interrupted_report_goes_on_where_it_was(
    measured: Path, finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supernets.training import RichProgress

    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    change(folder, train={"checkpoint_every": 1})
    steps: list[int] = []

    def stop(self: RichProgress, state: Any) -> None:
        steps.append(state.step)
        if len(steps) == 4 + 2:  # in the second network, which has four steps like the first
            raise KeyboardInterrupt

    monkeypatch.setattr(RichProgress, "__call__", stop)
    assert _run(["gap", str(folder), *SMALL], debug=False) == 130
    assert len(rows(folder / "gap")) == 1
    with (folder / "gap" / "gap.csv").open("a") as file:
        file.write("2,0,0 1")  # and it was killed while it wrote
    steps[:] = [0] * 100
    call(folder, *SMALL)
    assert steps[100:] == [3, 4, 1, 2, 3, 4]  # nothing is done twice
    assert rows(folder / "gap") == rows(measured / "gap")


def test_a_greater_sample_adds_to_the_smaller(again: Path, call: Call) -> None:
    before = rows(again / "gap")
    call(again, "--architectures", "4", "--epochs", "1")
    assert rows(again / "gap")[:3] == before
    assert len(rows(again / "gap")) == 4
    call(again, *SMALL, "--seeds", "2")
    found = rows(again / "gap")
    assert len(found) == 7
    assert [r["seed"] for r in found[4:]] == ["1"] * 3
    assert found[4]["inherited_top1"] == found[0]["inherited_top1"]
    assert found[4]["scratch_loss"] != found[0]["scratch_loss"]
    assert json.loads((again / "gap" / "gap.json").read_text())["scratch_seed_std"] > 0


def test_a_network_that_diverges_is_noted_and_left_out(
    again: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nassearch.gap.scratch import Recipe
    from supernets.training import NonFiniteLoss

    def diverge(*_: Any) -> None:
        raise NonFiniteLoss("the loss became inf\nin step 1")

    monkeypatch.setattr(Recipe, "train", diverge)
    out = call(again, "--architectures", "4", "--epochs", "1")
    assert "1 architectures failed" in out
    assert rows(again / "gap")[3]["error"] == "the loss became inf in step 1"


# -- several supernets -------------------------------------------------------------------------------


def test_another_supernet_takes_over_results_from_scratch(
    measured: Path, finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from supernets import load, save

    other = Path(shutil.copytree(finished, tmp_path / "other"))
    net = load(other / "supernet")
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.2)
    save(net, other / "supernet")
    no_training(monkeypatch)
    call(other, *SMALL, "--from", measured)
    mine, theirs = rows(other / "gap"), rows(measured / "gap")
    assert [r["scratch_loss"] for r in mine] == [r["scratch_loss"] for r in theirs]
    assert [r["inherited_loss"] for r in mine] != [r["inherited_loss"] for r in theirs]
    assert str(measured / "gap") in (other / "gap" / "gap.csv").read_text()

    out = call("--compare", measured, other, "--metric", "loss")
    assert "3 networks that all reports have" in out
    assert "differ between" not in out
    data = json.loads(call("--compare", measured, other, "--metric", "loss", "--json"))
    (difference,) = data["differences"]
    a, b = (r["supernet"]["mae"]["value"] for r in data["reports"])
    assert difference["mae"]["value"] == pytest.approx(b - a)
    assert difference["mae"]["low"] <= b - a <= difference["mae"]["high"]


# -- the sample --------------------------------------------------------------------------------------


def test_the_sample_is_spread_over_cost_and_grows() -> None:
    space = SearchSpace("s", [Gene(f"g.{i}", range(8)) for i in range(4)])

    def analytic(G: np.ndarray) -> dict[str, np.ndarray]:
        return {"macs_m": G.sum(1).astype(float), "params_m": G[:, 0].astype(float)}

    found = stratified(space, analytic, 15, 0)
    assert len(np.unique(found, axis=0)) == 15
    assert np.array_equal(stratified(space, analytic, 7, 0), found[:7])
    assert not np.array_equal(stratified(space, analytic, 7, 1), found[:7])
    everything = analytic(space.sample(1000, np.random.default_rng(9)))["macs_m"]
    wanted = np.quantile(everything, np.arange(1, 16) / 16)
    assert np.abs(np.sort(analytic(found)["macs_m"]) - wanted).max() <= 1.5


def test_a_small_space_is_taken_whole_and_not_beyond() -> None:
    space = SearchSpace("s", [Gene("a", (1, 2, 3)), Gene("b", (1, 2))])

    def analytic(G: np.ndarray) -> dict[str, np.ndarray]:
        return {"macs_m": G.sum(1).astype(float), "params_m": G[:, 0].astype(float)}

    assert len(np.unique(stratified(space, analytic, 6, 0), axis=0)) == 6
    with pytest.raises(ConfigError, match="has 6 distinct networks; give --architectures 6 or fewer"):
        stratified(space, analytic, 7, 0)
    with pytest.raises(ConfigError, match="give 3 to 1000"):
        stratified(space, analytic, 2, 0)


# -- what it refuses ---------------------------------------------------------------------------------


def test_bad_input_is_refused_before_any_work(
    again: Path, finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_training(monkeypatch)
    new = ("--out", tmp_path / "new")
    assert "is no quality of task" in call(again, *SMALL, "--metric", "latency_ms", *new, code=2)
    assert "--seeds 0" in call(again, *SMALL, "--seeds", 0, *new, code=2)
    assert "--architectures 2" in call(again, "--architectures", 2, *new, code=2)
    assert "--epochs: epochs" in call(again, "--epochs", 0, *new, code=2)
    assert "choose from initial, random" in call(again, *SMALL, "--start", "warm", *new, code=2)
    assert "--compare" in call(again, finished, *SMALL, *new, code=2)
    assert "is not empty" in call(again, *SMALL, "--out", finished, code=2)
    assert "recipe.epochs 3, there 1" in call(again, "--architectures", 3, "--epochs", 3, code=2)
    assert "recipe.epochs 3, there 1" in call(again, "--epochs", 3, "--from", again, *new, code=2)
    assert "no supernet-quality report" in call(again, *SMALL, "--from", finished, *new, code=2)
    assert not (tmp_path / "new").exists()


def test_a_run_without_supernet_or_recipe_says_so(again: Path, call: Call) -> None:
    change(again, supernet=str(again / "supernet"))
    data = yaml.safe_load((again / "config.yaml").read_text())
    data["train"]["method"] = None
    (again / "config.yaml").write_text(yaml.safe_dump(data))
    assert "did not train it, so its recipe is not known" in call(again, "--architectures", 3, code=2)
    assert make_recipe(Run(again), epochs=1).start == "random"
    shutil.rmtree(again / "supernet")
    assert "has no trained supernet" in call(again, *SMALL, code=2)


def test_only_reports_of_one_space_are_compared(measured: Path, again: Path, tmp_path: Path, call: Call) -> None:
    assert "needs two or more" in call("--compare", measured, code=2)
    assert "no supernet-quality report" in call("--compare", measured, tmp_path, code=2)
    path = again / "gap" / "gap-settings.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"space": "other", "space_identity": "0"}))
    assert "only supernets of one space" in call("--compare", measured, again, code=2)
    path.write_text(json.dumps(data | {"recipe": data["recipe"] | {"lr": 9}}))
    assert "recipe.lr" in call("--compare", measured, again, code=2)
    path.write_text(json.dumps(data))
    text = (again / "gap" / "gap.csv").read_text().splitlines()
    (again / "gap" / "gap.csv").write_text("\n".join([*text[:3], text[3].replace(",0,", ",x,", 1)]) + "\n")
    assert "line 4 is damaged" in call("--compare", measured, again, code=2)
