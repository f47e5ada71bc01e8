"""The translation supernet: conformance, masks, decoding, files."""

import argparse
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import get_space, hat_space
from supernets import CheckpointError, SupernetError, call
from supernets.conformance import SupernetConformance, randomise
from supernets.fixed import FixedSupernet
from supernets.hat import HatSupernet, load_hat_checkpoint
from supernets.hat.beam import beam_search


def tiny(**options):
    torch.manual_seed(0)
    space = hat_space(
        "hat-test", embeds=(24, 16), ffns=(32, 20), heads=(4, 2), encoder_layers=(3,), decoder_layers=(3, 2, 1)
    )
    options = {"vocab_size": 40, "inner": 16, "max_length": 20, "length": 6, "beam": 3} | options
    return HatSupernet(space=space, **options)


class TestHat(SupernetConformance):
    n_architectures = 6

    def make(self):
        return tiny()

    def count_macs(self, module, inputs):
        # Only products written out are counted exactly: the fused kernel of the CPU is not in the counter's table.
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            call(module, inputs)
        return counter.get_total_flops() // 2


class TestHatTwoVocabularies(TestHat):
    n_architectures = 3

    def make(self):
        return tiny(source_vocab_size=31)


class TestHatWithEveryDropout(TestHat):
    n_architectures = 3

    def make(self):
        return tiny(attention_dropout=0.3, activation_dropout=0.2)


@pytest.fixture
def net():
    net = tiny().eval()
    randomise(net)
    return net


def architectures(net, n=6):
    import numpy as np

    return net.space.decode(net.space.sample(n, np.random.default_rng(3)))


def test_padding_does_not_change_anything(net):
    inputs = net.example_inputs(batch_size=2)
    padded = {name: torch.nn.functional.pad(t, (0, 4), value=1) for name, t in inputs.items()}
    padded["attention_mask"][:, 6:] = 0
    for arch in architectures(net):
        net.activate(arch)
        with torch.no_grad():
            torch.testing.assert_close(call(net, padded)[:, :6], call(net, inputs), rtol=1e-5, atol=1e-5)
            padded["input_ids"][:, 6:] = 7  # whatever stands there
            torch.testing.assert_close(call(net, padded)[:, :6], call(net, inputs), rtol=1e-5, atol=1e-5)


def test_no_token_sees_a_later_one(net):
    inputs = net.example_inputs(batch_size=2)
    changed = {**inputs, "decoder_input_ids": inputs["decoder_input_ids"].clone()}
    changed["decoder_input_ids"][:, 4:] = 9
    for arch in architectures(net):
        net.activate(arch)
        with torch.no_grad():
            a, b = call(net, inputs), call(net, changed)
        assert torch.equal(a[:, :4], b[:, :4])
        assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_arbitrary_attention_reads_earlier_encoder_layers(net):
    (arch,) = net.space.decode(net.space.smallest[None])
    outputs = []
    for value in (-1, 1, 2):
        net.activate(arch | {"dec_cross.0": value})
        with torch.no_grad():
            outputs.append(call(net, net.example_inputs()))
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])


@pytest.mark.parametrize("beam", [1, 3])
def test_beam_search_with_cache_is_without(net, beam):
    inputs = net.example_inputs(batch_size=4)
    inputs["attention_mask"][1, 3:] = 0
    found = set()
    for arch in architectures(net):
        net.activate(arch)
        cached = net.generate(inputs, beam=beam, length=12)
        assert torch.equal(cached, net.generate(inputs, beam=beam, length=12, cache=False))
        found |= {tuple(row) for row in cached.tolist()}
    assert len(found) > 4


def test_a_batch_translates_as_its_sentences(net):
    inputs = net.example_inputs(batch_size=3)
    inputs["attention_mask"][1, 3:] = 0
    together = net.generate(inputs, beam=3, length=8)
    for i, row in enumerate(together):
        alone = {name: t[i : i + 1] for name, t in inputs.items()}
        if i == 1:
            alone = {name: t[:, :3] for name, t in alone.items()}
        result = net.generate(alone, beam=3, length=8)[0]
        assert torch.equal(row[: len(result)], result)
        assert (row[len(result) :] == 1).all()


def test_a_wide_beam_finds_the_best_of_all_targets():
    """With as many hypotheses as there are prefixes, nothing is lost: an exhaustive search finds the same."""
    from itertools import product

    net = tiny(vocab_size=6).eval()
    randomise(net)
    inputs = net.example_inputs(batch_size=1)
    found = net.generate(inputs, beam=36, length=2)[0].tolist()

    def score(target):
        ids = torch.tensor([[2, *target]])
        with torch.no_grad():
            logits = net(inputs["input_ids"], inputs["attention_mask"], ids[:, :-1])
        return float(torch.log_softmax(logits, -1)[0].gather(1, ids[0, 1:, None]).sum()) / len(target)

    allowed = [t for t in range(6) if t != 1]
    targets = [(2,)] + [t for t in product(allowed, repeat=2) if t[0] != 2]
    best = max(targets, key=score)
    assert tuple(t for t in found if t != 1) == best


def test_generating_keeps_the_mode(net):
    net.train()
    net.model.encoder_dropout.eval()
    net.generate(net.example_inputs(), length=3)
    assert net.training
    assert not net.model.encoder_dropout.training


def test_one_subnet_alone_translates_as_the_supernet(net):
    inputs = net.example_inputs(batch_size=3)
    inputs["attention_mask"][1, 3:] = 0
    found = set()
    for arch in architectures(net):
        alone = FixedSupernet(net, arch).train()  # dropout has no part in it, whatever the mode
        with net.activated(arch):
            expected = net.generate(inputs, beam=3, length=8)
        assert torch.equal(alone.generate(inputs, beam=3, length=8), expected)
        found.add(str(expected.tolist()))
        with torch.no_grad():
            for p in alone.module.parameters():
                p.neg_()
        assert not torch.equal(alone.generate(inputs, beam=3, length=8), expected)  # it is the network's weights
    assert len(found) > 2


def test_what_is_timed_is_a_whole_translation(net):
    arch = architectures(net)[0]
    timed, inputs = net.timed(arch), net.example_inputs(arch, batch_size=2, sequence=9)
    with torch.inference_mode():
        result = timed(**inputs)
    assert result.shape == (2, 9)
    net.activate(arch)
    expected = beam_search(
        net.model, inputs["input_ids"], inputs["attention_mask"], beam=3, length=9, begin=2, end=None, padding=1
    )
    assert torch.equal(result, expected)


def test_rebuilt_from_source(net, tmp_path, monkeypatch):
    arch = architectures(net)[1]
    (tmp_path / "rebuilt_hat.py").write_text(net.rebuild_source(arch), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import rebuilt_hat

    model = rebuilt_hat.build_model()
    model.load_state_dict(net.extract(arch).state_dict())
    inputs = net.example_inputs(arch)
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs), net.extract(arch)(**inputs))
    sys.modules.pop("rebuilt_hat")


def test_dropout_falls_with_the_width(net):
    (arch,) = net.space.decode(net.space.largest[None])
    net.activate(arch | {"dec_embed": 16})
    assert net.model.encoder_layers[0].dropout.p == pytest.approx(0.1)
    assert net.model.decoder_layers[0].dropout.p == pytest.approx(0.1 * 16 / 24)


def test_dropout_of_hidden_activations_falls_with_the_width_that_of_attention_does_not():
    net = tiny(dropout=0.0, attention_dropout=0.3, activation_dropout=0.2)
    (arch,) = net.space.decode(net.space.largest[None])
    net.activate(arch | {"dec_embed": 16})
    layer = net.model.decoder_layers[0]
    assert layer.activation_dropout.p == pytest.approx(0.2 * 16 / 24)
    assert [a.dropout.p for a in (layer.attention, layer.cross, net.model.encoder_layers[0].attention)] == [0.3] * 3


@pytest.mark.parametrize("kind", ["attention_dropout", "activation_dropout"])
def test_each_dropout_acts_in_train_mode_alone(kind):
    net = tiny(dropout=0.0, **{kind: 0.3})
    plain = tiny(dropout=0.0)
    plain.load_state_dict(net.state_dict())
    inputs = net.example_inputs(batch_size=2)
    with torch.no_grad():
        assert torch.equal(net.eval()(**inputs), plain(**inputs))
        assert not torch.equal(net.train()(**inputs), plain(**inputs))
        assert torch.equal(plain.train()(**inputs), plain.eval()(**inputs))


@pytest.mark.parametrize("training", [True, False])
def test_an_extracted_subnet_drops_out_what_the_supernet_does(training):
    """Whichever mode it was extracted in: its forward pass is recorded once."""
    net = tiny(dropout=0.1, attention_dropout=0.3, activation_dropout=0.2).train(training)
    randomise(net)
    arch = architectures(net)[1]
    alone, inputs = net.extract(arch), net.example_inputs(batch_size=2)
    inputs["attention_mask"][1, 3:] = 0
    with torch.no_grad(), net.activated(arch):
        for mode in (True, False):
            net.train(mode)
            alone.train(mode)
            torch.manual_seed(5)
            expected = net(**inputs)
            torch.manual_seed(5)
            torch.testing.assert_close(alone(**inputs), expected, atol=1e-5, rtol=1e-5)
            close = torch.allclose(alone(**inputs), expected, atol=1e-5)
            assert close is not mode  # with other random numbers


def test_hats_own_recipe_is_the_default():
    import inspect

    from supernets.hat import sizes

    names = ("dropout", "attention_dropout", "activation_dropout")
    for size, expected in ((sizes.hat_wmt, (0.3, 0.1, 0.0)), (sizes.hat_iwslt, (0.375, 0.0, 0.0))):
        given = inspect.signature(size).parameters
        assert tuple(given[name].default for name in names) == expected


def hat_state(net, separate=False):
    """A random state dict as HAT's code writes it for a supernet of these sizes."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator) * 0.1

    state = {"encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}
    state["encoder.embed_positions._float_tensor"] = torch.zeros(1)
    state["encoder.embed_tokens.weight"] = state["decoder.embed_tokens.weight"] = random(40, 24)

    def attention(name, own=False):
        if own:
            state.update({f"{name}.{p}_proj_weight": random(16, 24) for p in "qkv"})
        else:
            state[f"{name}.in_proj_weight"] = random(48, 24)
        state[f"{name}.in_proj_bias"] = random(48)
        state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"] = random(24, 16), random(24)

    for side in ("encoder", "decoder"):
        for i in range(3):
            place = f"{side}.layers.{i}"
            attention(f"{place}.self_attn")
            norms = ["self_attn_layer_norm", "final_layer_norm"]
            if side == "decoder":
                attention(f"{place}.encoder_attn", separate)
                norms.append("encoder_attn_layer_norm")
            for norm in norms:
                state[f"{place}.{norm}.weight"], state[f"{place}.{norm}.bias"] = 1 + random(24), random(24)
            state[f"{place}.fc1.weight"], state[f"{place}.fc1.bias"] = random(32, 24), random(32)
            state[f"{place}.fc2.weight"], state[f"{place}.fc2.bias"] = random(24, 32), random(24)
    return state


@pytest.mark.parametrize("separate", [False, True])
def test_reads_hat_checkpoints(net, tmp_path, separate):
    state = hat_state(net, separate)
    args = argparse.Namespace(arch="transformersuper_wmt_en_de", lr=[1e-7])  # as fairseq writes it
    torch.save({"args": args, "model": state}, tmp_path / "hat.pt")
    load_hat_checkpoint(net, tmp_path / "hat.pt")
    cross = net.model.decoder_layers[1].cross
    keys = state["decoder.layers.1.encoder_attn." + ("k_proj_weight" if separate else "in_proj_weight")]
    assert torch.equal(cross.k.weight, keys if separate else keys[16:32])
    assert torch.equal(cross.v.bias, state["decoder.layers.1.encoder_attn.in_proj_bias"][32:])
    assert torch.equal(net.model.tokens.weight, state["encoder.embed_tokens.weight"])
    unread = [
        n for n, p in net.named_parameters() if not any(torch.equal(p, t) or _within(p, t) for t in state.values())
    ]
    assert unread == []


def _within(p, t):
    return t.shape[1:] == p.shape[1:] and any(
        torch.equal(t[i : i + len(p)], p) for i in range(0, len(t) - len(p) + 1, len(p))
    )


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path):
    net = tiny(vocab_size=50)
    before = net.model.tokens.weight.clone()
    torch.save(hat_state(net), tmp_path / "hat.pt")
    with pytest.raises(CheckpointError, match=r"vocab_size=50.*embed_tokens.weight \[40, 24\], expected \[50, 24\]"):
        load_hat_checkpoint(net, tmp_path / "hat.pt")
    assert torch.equal(net.model.tokens.weight, before)


def test_faults_of_checkpoints_are_told(net, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        load_hat_checkpoint(net, tmp_path / "absent.pt")
    state = hat_state(net)
    state["encoder.layers.7.fc1.weight"] = state.pop("decoder.layers.0.fc1.bias")
    torch.save(state, tmp_path / "hat.pt")
    with pytest.raises(CheckpointError, match=r"missing: decoder.layers.0.fc1.bias; unexpected: encoder.layers.7"):
        load_hat_checkpoint(net, tmp_path / "hat.pt")
    state = hat_state(net)
    state["encoder.embed_tokens.weight"] = torch.zeros(31, 24)
    torch.save(state, tmp_path / "hat.pt")
    with pytest.raises(CheckpointError, match="source_vocab_size=31"):
        load_hat_checkpoint(net, tmp_path / "hat.pt")


def test_bad_inputs_are_told(net):
    inputs = net.example_inputs()
    inputs["input_ids"][0, 0] = 41
    with pytest.raises(SupernetError, match="token 41 of the source is none of the supernet's 40"):
        call(net, inputs)
    with pytest.raises(SupernetError, match="1 to 20"):
        net.example_inputs(sequence=21)
    with pytest.raises(SupernetError, match="heads do not divide"):
        tiny(inner=18)
    with pytest.raises(SupernetError, match="no gene"):
        HatSupernet(space=get_space("mobilenetv3-tiny"), vocab_size=10)
