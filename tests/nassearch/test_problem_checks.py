"""Checks of a configuration that need no run."""

from __future__ import annotations

from pathlib import Path

import pytest

from nassearch.config import make_config
from nassearch.engine import absolute_paths
from nassearch.problem_checks import unused_choices


def test_options_that_a_loaded_supernet_does_not_have_are_named() -> None:
    has = {"uniform": False, "sequence": 16, "choices": {"": {"depth": [1, 2], "ffn": [8, 16]}}}
    assert unused_choices(has, {"uniform": False, "sequence": 16, "depth": [2, 1], "num_classes": 3}) == []
    assert unused_choices(has, {"uniform": True, "ffn": [16]}) == [
        "uniform=True (it has False)",
        "ffn=[16] (it has [8, 16])",
    ]
    assert unused_choices(has, {"sequence": 8, "depth": 2}) == ["sequence=8 (it has 16)", "depth=2 (it has [1, 2])"]
    two = {"choices": {"encoder": {"depth": [1, 2]}, "decoder": {"depth": [2]}}}
    assert unused_choices(two, {"depth": [1, 2], "decoder_depth": [2]}) == []
    assert unused_choices(two, {"encoder_depth": [2], "decoder_depth": 2}) == ["encoder_depth=[2] (it has [1, 2])"]
    experts = {"choices": {"keep": [4, 8], "operators": ["drop", "ream"], "uniform": False}}
    assert unused_choices(experts, {"keep": [8, 4], "operators": ["ream", "drop"]}) == []
    assert unused_choices(experts, {"uniform": True}) == ["uniform=True (it has False)"]
    assert unused_choices(experts, {"keep": [2, 8], "operators": "drop"}) == [
        "keep=[2, 8] (it has [4, 8])",
        "operators=drop (it has ['drop', 'ream'])",
    ]
    assert unused_choices({"width": 1}, {"uniform": True, "depth": [1]}) == []


def test_the_folder_of_a_teacher_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "space": "mobilenetv3-tiny",
        "task": "digits",
        "objectives": ["top1:max"],
        "train": {"options": {"teacher": "bert", "alpha": 0.5}},
    }
    config = make_config(given)
    train = config.model_copy(update=absolute_paths(config)).train
    assert train.options == {"teacher": str(tmp_path / "bert"), "alpha": 0.5}
    assert config.train.options["teacher"] == "bert"
    assert "train" not in absolute_paths(config.model_copy(update={"train": type(config.train)()}))
