import json
from dataclasses import replace

import pytest

from predictors import device as module
from predictors.errors import MeasurementError
from predictors.measurement import DeviceIdentity, LatencySetting, describe_device


def test_this_machine():
    got = describe_device(LatencySetting(threads=2))
    assert got.cpu
    assert got.cores >= got.usable_cores >= 1
    assert got.threads == 2
    assert got.torch[0].isdigit()
    assert got.gpu is None
    assert got.onnxruntime is None
    assert DeviceIdentity.from_json(json.loads(json.dumps(got.to_json()))) == got
    assert got.cpu in str(got)


def test_fingerprint_follows_what_matters_for_timing():
    one = describe_device(LatencySetting())
    assert len(one.fingerprint) == 16
    assert replace(one, os="another kernel").fingerprint == one.fingerprint
    for change in ({"cpu": "other"}, {"threads": 9}, {"torch": "0.1"}, {"gpu": "other"}, {"onnxruntime": "1"}):
        assert replace(one, **change).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nmodel name\t: Fast CPU @ 3 GHz\n", "Fast CPU @ 3 GHz"),
        ("processor : 0\nModel\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("CPU implementer : 0x41\nCPU part : 0xd0c\n", "implementer 0x41 part 0xd0c"),
    ],
)
def test_cpu_models(tmp_path, monkeypatch, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    assert module.cpu_model().endswith(expected)


def test_without_cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "missing")
    assert module.cpu_model()


def test_a_gpu_that_is_not_here():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(MeasurementError, match="no CUDA device is visible"):
        describe_device(LatencySetting(device="cuda"))
