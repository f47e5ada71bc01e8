"""The family of the adapter guide is one in good standing, and the guide shows what the file has."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers
from torch import nn

from predictors.measurement.counters import count
from supernets import Inputs, Supernet, convert
from supernets.conformance import SupernetConformance

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS / "examples"))

import opt_family  # noqa: E402


class TestOPT(SupernetConformance):
    n_architectures = 2

    def make(self) -> Supernet:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
        config = transformers.OPTConfig(vocab_size=40, max_position_embeddings=20, **sizes)
        return convert(transformers.OPTForCausalLM(config).eval(), sequence=7)

    def count_macs(self, module: nn.Module, inputs: Inputs) -> int:
        return round(count(module, inputs).macs_m * 1e6)


def test_the_guide_shows_the_file() -> None:
    code = (DOCS / "examples" / "opt_family.py").read_text().split('"""\n\n', 1)[1]
    assert f"```python\n{code}```" in (DOCS / "user-guide" / "adapters.md").read_text()
    assert opt_family.OPT.name == "opt"
