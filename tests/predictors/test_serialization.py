"""Saved predictors: what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from predictors import load_predictor, make_predictor
from predictors.model_errors import PredictorFileError
from predictors.serialization import Record, read_record, write_record

X = np.random.default_rng(0).normal(size=(20, 4))
Y = X @ np.arange(1.0, 5.0)


def edit_header(folder: Path, **changes: object) -> None:
    file = folder / "predictor.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_predictor("ridge").fit(X, Y).save(tmp_path / "p")
    return tmp_path / "p"


def test_records_nest_and_come_back_equal(tmp_path: Path) -> None:
    child = Record(values={"a": 1}, arrays={"x": np.arange(3)}, texts={"t": "{}"})
    write_record(Record(values={"b": [1.5, None]}, children={"child": child}), tmp_path / "r")
    back = read_record(tmp_path / "r")
    assert back.values == {"b": [1.5, None]}
    assert back.children["child"].texts == {"t": "{}"}
    np.testing.assert_array_equal(back.children["child"].arrays["x"], np.arange(3))


def test_only_json_and_npz_are_written(tmp_path: Path) -> None:
    make_predictor("auto", models=["ridge", "xgboost"]).fit(X, Y).save(tmp_path / "deep" / "p")
    files = {f.suffix for f in (tmp_path / "deep" / "p").rglob("*") if f.is_file()}
    assert files == {".json", ".npz"}
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["p"]  # no scratch folder is left


def test_saving_again_replaces_the_older_one(saved: Path) -> None:
    make_predictor("xgboost", trees=3).fit(X, Y).save(saved)
    assert load_predictor(saved).name == "xgboost"
    make_predictor("ridge").fit(X, Y).save(saved)
    assert load_predictor(saved).name == "ridge"
    assert not (saved / "texts").exists()


def test_other_peoples_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("mine", "file"):
        with pytest.raises(PredictorFileError, match="not a saved predictor"):
            make_predictor("ridge").fit(X, Y).save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(PredictorFileError, match="no predictor in"):
        load_predictor(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"format": "pickle"}, "not a predictor of ours"),
        ({"version": 99}, "upgrade"),
        ({"version": "1"}, "upgrade"),
        ({"values": []}, "damaged"),
        ({"texts": ["../../etc/passwd"]}, "outside its folder"),
        ({"children": ["../p"]}, "outside its folder"),
        ({"children": ["ridge"]}, "no predictor in"),
        ({"texts": ["booster"]}, "damaged"),
        ({"values": {"name": "oracle"}}, "'oracle', which is not registered"),
        ({"values": {"name": "ridge"}}, "damaged"),
        ({"values": {"name": "ridge", "seed": 0, "options": {"alpha": 1}}}, "damaged"),
    ],
)
def test_headers_that_are_wrong(saved: Path, changes: dict[str, object], fragment: str) -> None:
    edit_header(saved, **changes)
    with pytest.raises(PredictorFileError) as raised:
        load_predictor(saved)
    assert fragment in str(raised.value)


def test_header_that_is_not_json(saved: Path) -> None:
    (saved / "predictor.json").write_text("{")
    with pytest.raises(PredictorFileError, match="damaged"):
        load_predictor(saved)


def test_arrays_that_need_pickle_are_refused(saved: Path) -> None:
    np.savez(saved / "arrays.npz", **{"base.X": np.array([{}], dtype=object)})
    with pytest.raises(PredictorFileError, match="damaged"):
        load_predictor(saved)


def test_arrays_that_do_not_fit_together(saved: Path) -> None:
    with np.load(saved / "arrays.npz") as file:
        arrays = {k: file[k] for k in file.files}
    np.savez(saved / "arrays.npz", **{**arrays, "base.y": arrays["base.y"][:-1]})
    with pytest.raises(PredictorFileError, match="training data of shapes"):
        load_predictor(saved)
    del arrays["coefficients"]
    np.savez(saved / "arrays.npz", **arrays)
    with pytest.raises(PredictorFileError, match="coefficients"):
        load_predictor(saved)


def test_names_that_would_escape_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(PredictorFileError, match="cannot name a part"):
        write_record(Record(texts={"../evil": "{}"}), tmp_path / "r")
    assert list(tmp_path.iterdir()) == []
