"""Mixtures in mixed precision, with layers that run twice, and with the batches shared out among workers."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from mixture_data import data_for, loss
from mixture_nets import KINDS, make_net
from safetensors.torch import load_file, save_file
from tiny_models import make_model
from torch import distributed, multiprocessing
from training_toy import same, settings, weights_of

from supernets import call, convert
from supernets.base import Supernet
from supernets.training import Alone, Batch, Passes, ProcessTeam, logits_of, make_method, train

CPU = torch.device("cpu")


def stepped(net: Supernet, batch: Batch, method: str = "sandwich", **options: Any) -> dict[str, Any]:
    """Return the gradients of one step by name of the weight."""
    passes = Passes(net.train(), loss, CPU, **options)
    chosen = make_method(method, net.space, total_steps=4, random_subnets=1)
    torch.manual_seed(1)  # of dropout
    chosen.backward(batch, chosen.subnets(1), passes)
    return {n: p.grad for n, p in net.named_parameters()}


def architectures(net: Supernet, n: int = 4) -> list[Any]:
    import numpy as np

    return net.space.decode(net.space.sample(n, np.random.default_rng(1)))


# -- mixed precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hat", "timm_vit", "mobilenetv3-tiny"])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_experts_are_the_plain_supernet_in_mixed_precision(name, kind):
    """Bit for bit; what the experts learn together is what the plain weight learns."""
    plain, net = (
        make_net(name, None, random=False, dropout=0.0),
        make_net(name, kind, noise=0.0, init="copies", random=False, dropout=0.0),
    )
    batch = next(data_for(name).batches(0))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for arch in architectures(net):
            plain.activate(arch)
            net.activate(arch)
            assert torch.equal(logits_of(call(net, batch.inputs)), logits_of(call(plain, batch.inputs)))
    wanted, got = stepped(plain, batch, amp="bf16"), stepped(net, batch, amp="bf16")
    for routed in net.mixture.routed().values():
        owner = next(n for n, m in net.named_modules() if m is routed.owner)
        expected = wanted[f"{owner}.weight"]
        added = torch.stack([t.grad for t in routed.tensors("weight")]).sum(0)
        assert added.dtype == torch.float32
        torch.testing.assert_close(added, expected, atol=1e-6, rtol=1e-4)
    assert got.keys() > wanted.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_mixed_in_full_precision(kind):
    """Rounding to bfloat16 comes after it, as for any weight."""
    net, inside = make_net("hat", kind).train(), []
    for arch in architectures(net, 2):
        net.activate(arch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            call(net, net.example_inputs())
            inside = [(r.coefficients(), r.value("weight")) for r in net.mixture.routed().values()]
        net.mixture.forget()
        for routed, (coefficients, weight) in zip(net.mixture.routed().values(), inside, strict=True):
            assert torch.equal(routed.coefficients(), coefficients)
            assert torch.equal(routed.value("weight"), weight)


@pytest.mark.parametrize("name", ["hat", "timm_vit"])
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_learns_in_the_direction_of_full_precision(name, kind):
    batch = next(data_for(name).batches(0))
    full, half = (stepped(make_net(name, kind, dropout=0.0), batch, amp=amp) for amp in ("off", "bf16"))
    for n, gradient in full.items():
        if gradient is None:
            assert half[n] is None, n
            continue
        assert half[n].dtype == torch.float32, n
        if ".experts." in n or "router" in n:
            cosine = torch.cosine_similarity(gradient.flatten(), half[n].flatten(), dim=0)
            assert float(cosine) > 0.95, (n, float(cosine))


@pytest.mark.parametrize("kind", KINDS)
def test_mixtures_are_not_stale_after_steps_in_mixed_precision(kind):
    net, data = make_net("hat", kind), data_for("hat")
    chosen = settings(steps=3, lr=0.02, optimizer="adamw", amp="bf16")
    train(net, data, loss, method="sandwich", settings=chosen, score=None, device="cpu")
    net.eval()
    inputs = data.evaluation()[0].inputs
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for arch in architectures(net):
            net.activate(arch)
            assert torch.equal(call(net, inputs), call(net.extract(arch), inputs))


# -- layers that run again ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "timm_vit", "t5_gated", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_run_again_have_the_same_gradients(name, kind):
    """Also of the routers, though several subnets run before the first backward pass; nothing is mixed twice."""

    def step(recompute: bool) -> tuple[dict[str, Any], int]:
        torch.manual_seed(0)
        model = make_model(name)
        torch.manual_seed(4)
        image = name.startswith("timm")
        net = convert(model, mixture=kind, experts=2, **({} if image else {"sequence": 7}))
        with torch.no_grad():
            inputs = net.example_inputs(batch_size=3)
            batch = Batch(inputs, logits_of(call(net, inputs)).argmax(-1))
        options = {"gamma": 0, "stop_gradient": False, "random_subnets": 2, "smallest": True}
        passes = Passes(net.train(), loss, CPU, recompute=recompute)
        chosen = make_method("instatune", net.space, total_steps=4, **options)
        torch.manual_seed(1)
        chosen.backward(batch, chosen.subnets(1), passes)
        mixes = sum(layer.mixes for layer in net.mixture.routed().values())
        return {n: p.grad for n, p in net.named_parameters()}, mixes

    (wanted, before), (got, after) = step(False), step(True)
    assert before == after
    assert any("router" in n and g is not None and g.any() for n, g in wanted.items())
    for n, gradient in wanted.items():
        if gradient is None:
            assert got[n] is None, n
        else:
            torch.testing.assert_close(got[n], gradient, atol=1e-7, rtol=1e-5, msg=lambda m, n=n: f"{n}: {m}")


# -- workers -----------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def fit(team: Any, case: dict[str, Any], rank: int = 0) -> tuple[Supernet, Any]:
    name, kind, folder, stop = case["name"], case["kind"], case.get("folder"), case.get("stop")
    net = make_net(name, kind, random=False, dropout=0.0)
    if rank:  # a worker comes with weights of its own: those of worker 0 count
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1)

    def progress(state: Any) -> None:
        if state.step == stop:
            raise Killed

    report = train(
        net,
        data_for(name),
        loss,
        method=case["method"],
        # Not Adam, which makes steps of one size of the rounding in a gradient of zero (a key's bias).
        settings=settings(steps=5, lr=0.1, optimizer="sgd", clip_norm=1.0, checkpoint_every=2),
        checkpoint_dir=folder if rank == 0 or folder is None else Path(folder) / "absent",
        resume=True,
        progress=progress,
        score=None,
        team=team,
        device="cpu",
    )
    return net, report


def worker(rank: int, size: int, out: str, case: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{out}/meeting", rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    try:
        net, report = fit(ProcessTeam(), case, rank)
        save_file(weights_of(net), f"{out}/weights-{rank}.safetensors")
        note: dict[str, Any] = {"loss": report.loss, "resumed": report.resumed_from}
    except Exception as error:  # of a worker whose peer is gone: whatever gloo says
        note = {"error": type(error).__name__}
    Path(f"{out}/note-{rank}.json").write_text(json.dumps(note), encoding="utf-8")


def together(tmp_path: Path, **case: Any) -> list[dict[str, Any]]:
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    out.mkdir()
    multiprocessing.spawn(worker, args=(2, str(out), case), nprocs=2)
    notes = [json.loads((out / f"note-{r}.json").read_text(encoding="utf-8")) for r in range(2)]
    for rank, note in enumerate(notes):
        if "error" not in note:
            note["weights"] = load_file(out / f"weights-{rank}.safetensors")
    return notes


@pytest.mark.parametrize(
    ("name", "kind", "method"), [("hat", "neuron", "sandwich"), ("timm_vit", "layer", "instatune")]
)
def test_two_workers_end_like_one_and_resume_with_the_same_bits(name, kind, method, tmp_path):
    case = {"name": name, "kind": kind, "method": method}
    alone, report = fit(Alone(), case)
    first, second = together(tmp_path, **case)
    assert same(first["weights"], second["weights"])
    assert first["loss"] == pytest.approx(report.loss, rel=1e-4)
    for n, tensor in weights_of(alone).items():
        torch.testing.assert_close(first["weights"][n], tensor, atol=1e-5, rtol=0, msg=lambda m, n=n: f"{n}: {m}")
    before = weights_of(make_net(name, kind, random=False, dropout=0.0))
    moved = {n for n, tensor in before.items() if not torch.equal(first["weights"][n], tensor)}
    assert any(".experts." in n for n in moved)
    assert any("out_weight" in n for n in moved)
    folder = str(tmp_path / "folder")
    assert {n.get("error") for n in together(tmp_path, folder=folder, stop=3, **case)} >= {"Killed"}
    resumed, _ = together(tmp_path, folder=folder, **case)
    assert resumed["resumed"] == 2
    assert same(resumed["weights"], first["weights"])
