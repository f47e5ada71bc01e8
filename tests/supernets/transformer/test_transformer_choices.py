"""Lists of the user, default spaces, and models that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import make_model
from torch import nn

from supernets import SupernetError, UnsupportedModel, convert
from supernets.transformer import Dim, Family, Stack, register_transformer_family, transformer_families


def test_default_space_of_bert_base_is_the_papers() -> None:
    with torch.device("meta"):
        model = hf.BertModel(hf.BertConfig(vocab_size=8, num_hidden_layers=12))
    net = convert(model)
    genes = {g.name: g for g in net.space.genes}
    assert genes["depth"].choices == (6, 7, 8, 9, 10, 11, 12)
    assert genes["heads.11"].choices == (6, 8, 10, 12)
    assert genes["ffn.0"].choices == (1024, 2048, 3072)
    assert len(genes) == 25
    assert net.space.n_genotypes == 7 * 4**12 * 3**12  # 6.2e13
    assert round(net.space.n_distinct / 1e12, 1) == 9.7
    assert genes["heads.11"].active_when == {"depth": frozenset({12})}
    assert (genes["ffn.5"].role, genes["ffn.5"].layer, genes["ffn.5"].active_when) == ("ffn", 5, {})


def test_heads_of_groups_go_together() -> None:
    net = convert(make_model("llama"))  # 8 heads, 4 key-value heads
    assert {g.choices for g in net.space.genes if g.role == "heads"} == {(4, 6, 8)}
    twin: Any = net.extract({**net.active, "heads.0": 4})
    attention = twin.model.layers[0].self_attn
    assert (attention.q_proj.out_features, attention.k_proj.out_features) == (16, 8)


def test_shared_biases_mean_shared_heads() -> None:
    names = [g.name for g in convert(make_model("t5")).space.genes]
    assert {"encoder.heads", "decoder.heads", "decoder.cross_heads", "encoder.ffn.2", "decoder.depth"} <= set(names)


def test_uniform() -> None:
    net = convert(make_model("bert"), uniform=True)
    assert [g.name for g in net.space.genes] == ["depth", "ffn"]  # BERT's configuration cannot hold fewer heads
    net = convert(make_model("bert"), uniform=True, heads=[2, 4])
    assert [g.name for g in net.space.genes] == ["depth", "heads", "ffn"]
    genes = {g.name for g in convert(make_model("t5"), uniform=True).space.genes}
    assert genes == {"encoder.depth", "decoder.depth", "heads", "ffn"}  # one key of its configuration for both stacks


def test_own_lists() -> None:
    net = convert(make_model("bart"), depth=[1, 2], encoder_depth=[3, 2], heads=[4], cross_heads=4, decoder_ffn=[24, 7])
    choices = {g.name: g.choices for g in net.space.genes}
    assert choices["encoder.depth"] == (2, 3)
    assert choices["decoder.depth"] == (1, 2)
    assert choices["decoder.ffn.0"] == (7, 24)
    assert not any("heads" in name for name in choices)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"depth": [0, 3]}, r"depth: 0 is not possible; this model allows ints 1 to 3"),
    ({"depth": [2, 4]}, r"depth: 4 .* 1 to 3"),
    ({"depth": [1, 2]}, r"depth \[1, 2\] lacks 3, the model's own"),
    ({"depth": [3, 3]}, r"repeats a value"),
    ({"depth": []}, r"list of ints such as \[1, 3\], got \[\]"),
    ({"depth": "3"}, r"list of ints .* got '3'"),
    ({"depth": [True, 3]}, r"depth: True"),
    ({"heads": [2.0, 4]}, r"heads: 2.0"),
    ({"head": [2, 4]}, r"'head'.*did you mean 'heads'.*allowed: depth, ffn, heads"),
    ({"cross_heads": [2, 4]}, r"cannot make 'cross_heads' elastic"),
    ({"depth": [3], "heads": [4], "ffn": [24]}, r"nothing is elastic"),
    ({"sequence": 21}, r"sequence must be 1 to 20, the model's positions, got 21"),
    ({"sequence": 0}, r"got 0"),
    ({"uniform": 1}, r"uniform must be True or False, got 1"),
]


@pytest.mark.parametrize(("choices", "message"), BAD)
def test_bad_choices(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SupernetError, match=message):
        convert(make_model("bert"), **choices)


def test_more_bad_choices() -> None:
    with pytest.raises(SupernetError, match=r"heads: 3 .* 2 to 8 in steps of 2 \(heads that share"):
        convert(make_model("llama"), heads=[3, 8])
    with pytest.raises(SupernetError, match="'heads'"):
        convert(make_model("timm_beit"), heads=[2, 4])
    with pytest.raises(SupernetError, match="takes no text"):
        convert(make_model("vit"), sequence=5)
    net = convert(make_model("bert"), sequence=6)
    for arguments, message in (((), "labels"), (([],), "at least one batch")):
        with pytest.raises(SupernetError, match=message):
            net.sort_by_importance(*(arguments or ([net.example_inputs()],)))
    with pytest.raises(SupernetError, match="needs calibration batches"):
        net.sort_by_importance(layers=True)  # type: ignore[call-arg]
    with pytest.raises(SupernetError, match=r"permutation of 0 to 2 that begins with \[0\]"):
        convert(make_model("t5")).stacks[0].set_order([1, 0, 2])  # type: ignore[attr-defined]


def test_unsupported_models_are_refused() -> None:
    torch.manual_seed(0)
    albert = hf.AlbertModel(hf.AlbertConfig(vocab_size=9, embedding_size=4, hidden_size=8, num_attention_heads=2))
    with pytest.raises(
        UnsupportedModel, match=r"AlbertModel; supported: .*transformers bert/roberta.*timm Vis.*adapters"
    ):
        convert(albert)
    with pytest.raises(UnsupportedModel, match="supported"):
        convert(nn.Linear(2, 2))


def test_pruned_models_are_refused() -> None:
    net = convert(make_model("bert"))
    twin = net.extract({**net.active, "heads.0": 2})
    with pytest.raises(UnsupportedModel, match=r"layers 0 and 1 .* different shapes .*before it is pruned"):
        convert(twin)


def test_other_layouts_are_refused() -> None:
    model: Any = make_model("bert")
    for layer in model.bert.encoder.layer:
        layer.intermediate.linear = layer.intermediate.dense
        del layer.intermediate.dense
    with pytest.raises(UnsupportedModel, match=r"BertLayer has no 'intermediate\.dense'.*another version's"):
        convert(model)


def test_registering() -> None:
    table = Stack(layers="layers", heads=None, ffn=Dim(rows=("a",), columns=("b",)))
    with pytest.raises(SupernetError, match="models bert known already as 'bert'"):
        register_transformer_family(Family("mine", "transformers", ("bert",), (table,), ("text",)))
    with pytest.raises(SupernetError, match="library is 'transformers' or 'timm', got 'keras'"):
        register_transformer_family(Family("mine", "keras", ("x",), (table,), ("text",)))
    assert "mine" not in transformer_families()
