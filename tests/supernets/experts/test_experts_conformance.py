"""Every family of experts passes the conformance suite, on a tiny random model."""

from __future__ import annotations

from typing import ClassVar

from tiny_moe import CONFIGS, batches, make_moe
from torch import nn

from predictors.measurement.counters import count
from supernets import Inputs, Supernet, convert
from supernets.conformance import SupernetConformance


class _Experts(SupernetConformance):
    n_architectures = 2
    switching_computes = True  # index tensors and banks
    model: ClassVar[str]

    def make(self) -> Supernet:
        # Without super experts: how many products a token needs depends on whether it asks one that stays whole.
        return convert(make_moe(self.model), calibration=batches(), sequence=7, protect=False)

    def original(self, net: Supernet) -> nn.Module:
        model = make_moe(self.model)
        model.load_state_dict({n.removeprefix("model."): t for n, t in net.state_dict().items()}, strict=False)
        return model  # type: ignore[no-any-return]

    def count_macs(self, module: nn.Module, inputs: Inputs) -> int:
        module.set_experts_implementation("eager")  # grouped products are not counted
        return round(count(module, inputs).macs_m * 1e6)


for _name in sorted(CONFIGS):
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (_Experts,), {"model": _name, "__module__": __name__})
