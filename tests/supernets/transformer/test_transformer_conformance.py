"""Every adapter passes the conformance suite, on a tiny random model of each family."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from tiny_models import MODELS, VARIANTS, make_model
from torch import nn

from predictors.measurement.counters import count
from supernets import Inputs, Supernet, convert
from supernets.conformance import SupernetConformance


class _Transformer(SupernetConformance):
    n_architectures = 2
    model: ClassVar[str]

    def make(self) -> Supernet:
        options: dict[str, Any] = (
            {} if self.model.startswith(("vit", "deit", "beit", "timm", "clip_vision")) else {"sequence": 7}
        )
        return convert(make_model(self.model), **options)

    def original(self, net: Supernet) -> nn.Module:
        model = make_model(self.model)
        model.load_state_dict({n.removeprefix("model."): t for n, t in net.state_dict().items()}, strict=False)
        return model

    def count_macs(self, module: nn.Module, inputs: Inputs) -> int:
        return round(count(module, inputs).macs_m * 1e6)


for _name in sorted(MODELS):
    _marks = {"pytestmark": pytest.mark.slow} if _name in VARIANTS else {}
    _members = {"model": _name, "__module__": __name__, **_marks}
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (_Transformer,), _members)
