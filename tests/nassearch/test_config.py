from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from nassearch.config import import_plugins, make_config, parse_set, read_yaml
from nassearch.errors import ConfigError
from nassearch.tasks import make_task

GOOD = {"space": "mobilenetv3-tiny", "task": "digits", "objectives": ["top1:max"]}


def test_flags_go_over_the_file_and_sets_over_both(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("space: a\ntask: digits\nobjectives: ['top1:max']\nnum_evals: 5\ntrain: {settings: {epochs: 3}}\n")
    config = make_config({"space": "b", "seed": 7}, file=file, sets=["train.settings.lr=0.5", "num_evals=9"])
    assert (config.space, config.seed, config.num_evals) == ("b", 7, 9)
    assert config.train.settings == {"epochs": 3, "lr": 0.5}


def test_yaml_round_trip() -> None:
    config = make_config(GOOD | {"out": "x/y", "constraints": ["latency_ms <= 20"]}, sets=["executor.num_workers=2"])
    assert make_config(__import__("yaml").safe_load(config.to_yaml())) == config


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"spce": "x", "task": "digits", "num_evals": 0, "executor": {"num_worker": 2}, "objectives": []})
    text = str(caught.value)
    assert "unknown setting 'spce'; did you mean 'space'?" in text
    assert "setting 'space' is missing; give --space NAME" in text
    assert "setting 'num_evals': input should be greater than 0, got 0" in text
    assert "unknown setting 'executor.num_worker'; did you mean 'num_workers'?" in text
    assert "no objective is given" in text
    assert len(caught.value.faults) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,", r"run.yaml, line \d+, column \d+: not valid YAML"),
        ("- a\n- b\n", "a mapping of settings is needed .*got list"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_yaml_names_file_and_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(file)


def test_bad_sets_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_set(["a.b", "=3", "a..b=3", "c=[1,"])
    assert len(caught.value.faults) == 4


def test_sets_are_yaml_values_with_exponents_as_numbers() -> None:
    given = parse_set(["a.b=3", "a.c=[1, x]", "d=1e-3", "e=true", "f=-2E+4", "g=1e3x"])
    assert given == {"a": {"b": 3, "c": [1, "x"]}, "d": 0.001, "e": True, "f": -20000.0, "g": "1e3x"}


def test_training_defaults_to_none_when_weights_are_given(tmp_path: Path) -> None:
    assert make_config(GOOD).train_method == "sandwich"
    assert make_config(GOOD | {"space": "auto", "model": "m"}).train_method == "instatune"
    assert make_config(GOOD | {"space": "auto", "supernet": "x"}).train_method == "none"
    assert make_task("digits", model=str(tmp_path)).training_defaults["epochs"] == 5
    assert make_config(GOOD | {"checkpoint": "x.pth"}).train_method == "none"
    assert make_config(GOOD | {"checkpoint": "x.pth", "train": {"method": "single-path"}}).train_method == "single-path"


def test_plugins_are_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_beside_me.py").write_text("LOADED = True\n")
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('hides the installed one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    import_plugins(["plugin_beside_me", "colorsys"])
    assert sys.modules.pop("plugin_beside_me").LOADED


def test_plugins_that_fail_are_named() -> None:
    with pytest.raises(ConfigError, match="plugin 'no_such_module' cannot be imported"):
        import_plugins(["no_such_module"])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"mixture": "none"}, {"vocab_size": 300, "mixture": "none"}),
        ({"experts": 4}, {"vocab_size": 300, "mixture": "neuron", "experts": 4, "mixture_options": {"hidden": 8}}),
        ({"mixture": "layer"}, {"vocab_size": 300, "mixture": "layer"}),
        (
            {"vocab_size": 200, "mixture_options": {"top_k": 1}},
            {"vocab_size": 200, "mixture": "neuron", "experts": 3, "mixture_options": {"hidden": 8, "top_k": 1}},
        ),
    ],
)
def test_options_of_a_warm_start_are_kept_beside_those_given(
    tmp_path: Path, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """A flag such as --mixture says nothing of the vocabulary; another mixture leaves nothing of the earlier one."""
    options = {"vocab_size": 300, "mixture": "neuron", "experts": 3, "mixture_options": {"hidden": 8}}
    earlier = make_config({
        "space": "hat-multi30k", "task": "translation:multi30k:D", "objectives": ["nll:min"], "model_options": options
    })  # fmt: skip
    (tmp_path / "config.yaml").write_text(earlier.to_yaml())
    later = {"objectives": ["nll:min"], "warm_start": [str(tmp_path)], "model_options": given}
    config = make_config(later)
    assert config.model_options == wanted
    assert make_config(config.model_dump(mode="json")).model_options == wanted  # as it is read again
    assert make_config({**later, "space": "hat-wmt"}).model_options == given
    assert make_config({**later, "model": "another"}).model_options == given
    saved = tmp_path / "saved.yaml"
    saved.write_text(config.to_yaml())
    for text in (earlier.to_yaml().replace("300", "400"), "broken: ["):
        (tmp_path / "config.yaml").write_text(text)
        assert make_config(file=saved).model_options == wanted
