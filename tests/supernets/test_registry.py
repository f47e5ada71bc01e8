"""Names, options and adapters."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import supernets
from supernets import SupernetError, UnknownFamily, UnsupportedModel, build, convert, list_supernets, registry
from supernets.registry import build_family, register_family, register_supernet, supernet_options


def test_listing() -> None:
    assert {"mobilenetv3-tiny", "ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2"} <= set(list_supernets())
    assert list_supernets("ofa-*") == ["ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2"]


def test_unknown_names_are_suggested() -> None:
    with pytest.raises(UnknownFamily, match="did you mean 'mobilenetv3-tiny'"):
        build("mobilenet-tiny")
    with pytest.raises(UnknownFamily, match="mobilenetv3"):
        build_family("mobilenetv2", {})


def test_unknown_options_are_refused() -> None:
    with pytest.raises(SupernetError, match=r"no option 'n_classes'.*did you mean 'num_classes'.*in_channels"):
        build("mobilenetv3-tiny", n_classes=3)
    assert supernet_options("mobilenetv3-tiny") == {"in_channels": 1, "num_classes": 10, "dropout": 0.0}


def test_options_reach_the_network() -> None:
    net = build("mobilenetv3-tiny", in_channels=3, num_classes=4)
    (x,) = net.example_inputs(batch_size=2)  # type: ignore[misc]
    assert net(x).shape == (2, 4)


def test_names_are_taken_once() -> None:
    with pytest.raises(SupernetError, match="registered already"):
        register_supernet("mobilenetv3-tiny")(build)

    class Other(supernets.mobilenetv3.MobileNetV3Supernet):
        pass

    with pytest.raises(SupernetError, match="registered already"):
        register_family(Other)


def test_foreign_configuration() -> None:
    with pytest.raises(SupernetError, match="not a configuration"):
        build_family("mobilenetv3", {"depth": 3})


class LinearAdapter:
    description = "torch.nn.Linear"

    def supports(self, model: nn.Module) -> bool:
        return isinstance(model, nn.Linear)

    def convert(self, model: nn.Module, **choices: Any) -> supernets.Supernet:
        return build("mobilenetv3-tiny", **choices)


def test_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADAPTERS", [])
    with pytest.raises(UnsupportedModel, match=r"torch\.nn\..*ReLU; supported: no model yet.*mobilenetv3-tiny"):
        convert(nn.ReLU())
    registry.register_adapter(LinearAdapter())
    assert convert(nn.Linear(2, 2), num_classes=3).space.name == "mobilenetv3-tiny"
    with pytest.raises(UnsupportedModel, match=r"supported: torch\.nn\.Linear"):
        convert(nn.ReLU())
