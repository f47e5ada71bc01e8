import pytest

from predictors.backends import list_backends, make_backend, register_backend, registry
from predictors.backends.eager import EagerBackend
from predictors.errors import PredictorsError, UnknownBackend
from predictors.measurement import LatencySetting


def test_built_in_names():
    assert list_backends() == ["compile", "cudagraph", "eager", "onnxruntime"]
    assert list_backends("c*") == ["compile", "cudagraph"]
    assert all(registry.backend_entry(name).summary for name in list_backends())


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownBackend, match=r"'onnx_runtime'; did you mean 'onnxruntime'\?; available: compile"):
        make_backend("onnx_runtime")


def test_others_can_be_added(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @register_backend("mine", devices=("cpu",), dtypes=("float32",))
    class Mine(EagerBackend):
        """A backend of mine."""

    assert type(make_backend("mine")) is Mine
    assert registry.backend_entry("mine").summary == "A backend of mine."
    assert LatencySetting.parse("cpu:mine").backend == "mine"
    with pytest.raises(PredictorsError, match="registered already"):
        register_backend("mine", devices=("cpu",))(Mine)
    with pytest.raises(PredictorsError, match="letters"):
        register_backend("a,b", devices=("cpu",))(Mine)
