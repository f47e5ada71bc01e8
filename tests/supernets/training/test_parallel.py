"""Several workers train like one: processes joined by gloo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing
from training_toy import ToyData, ToySupernet, loss, same, settings, weights_of

from supernets.training import (
    Alone,
    Batch,
    NonFiniteLoss,
    Passes,
    ProcessTeam,
    TrainingError,
    make_method,
    top1_score,
    train,
)
from supernets.training.loop import shares
from supernets.training.parallel import share


class Ragged(ToyData):
    """Batches of 16, 5 and 1 inputs: the shares of two workers are unequal, and one is empty."""

    @property
    def steps_per_epoch(self) -> int:
        return 3

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = torch.randperm(22, generator=torch.Generator().manual_seed(epoch))
        for part in order.split([16, 5, 1]):
            yield Batch((self.inputs[part],), self.targets[part])


class Poisoned(Ragged):
    """The last input of a batch in epoch 1, of worker 1's share, is NaN."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        for batch in super().batches(epoch):
            (x,) = batch.inputs
            if epoch == 1:
                x[-1] = float("nan")
            yield Batch((x,), batch.targets)


class Tokens(Ragged):
    """Sequences of four tokens, of which few or many have a target; one worker's share of the second batch has none."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        targets = torch.stack([(self.targets + i) % 4 for i in range(4)], 1)
        targets[torch.rand(targets.shape, generator=torch.Generator().manual_seed(5)) < 0.6] = -100
        targets[0, 0] = 0  # of the batch of one item
        for i, batch in enumerate(super().batches(epoch)):
            rows = targets[-len(batch.targets) :].clone() if i else targets[: len(batch.targets)]
            if i == 1:
                rows[:2], rows[2:, 1] = -100, 1
            if i == 2:
                rows = targets[:1]
            (x,) = batch.inputs
            inputs = torch.stack([x.roll(k, 1) for k in range(4)], 1)
            yield Batch((inputs,), rows, counts=(rows >= 0).sum(1))


class TokenToy(ToySupernet):
    """The toy on each token of a sequence."""

    def fit_inputs(self, inputs: Any, arch: Any = None) -> Any:
        (tokens,) = super().fit_inputs((inputs[0].flatten(0, 1),), arch)
        return (tokens.unflatten(0, inputs[0].shape[:2]),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def token_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return loss(outputs.flatten(0, 1), targets.flatten())  # of tokens with a target: PyTorch leaves out -100


class Killed(Exception):
    pass


def fit(team: Any, case: dict[str, Any], folder: str | None, rank: int = 0) -> tuple[ToySupernet, Any]:
    # Each worker comes with weights of its own: those of worker 0 count.
    tokens = case.get("tokens", False)
    net = (TokenToy if tokens else ToySupernet)(norm=False, seed=rank, dropout=case.get("dropout", 0.0))
    stop = case.get("stop")

    def progress(state: Any) -> None:
        if state.step == stop:
            raise Killed

    values = {"optimizer": "adamw", "lr": 0.003, "steps": 8, "clip_norm": 1.0, "checkpoint_every": 3}
    report = train(
        net,
        Tokens() if tokens else Poisoned() if case.get("poisoned") else Ragged(),
        token_loss if tokens else loss,
        method=case.get("method", "instatune"),
        settings=settings(**(values | case.get("settings", {}))),
        checkpoint_dir=folder if rank == 0 or folder is None else Path(folder) / "absent",
        resume=True,
        progress=progress,
        score=None if tokens else top1_score,
        team=team,
        device="cpu",
    )
    return net, report


def worker(rank: int, size: int, out: str, case: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{out}/meeting", rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    note: dict[str, Any]
    try:
        net, report = fit(ProcessTeam(), case, case.get("folder"), rank)
        save_file(weights_of(net), f"{out}/weights-{rank}.safetensors")
        note = {"loss": report.loss, "images": report.images, "resumed": report.resumed_from}
    except Exception as error:
        note = {"error": type(error).__name__, "message": str(error)}
    Path(f"{out}/note-{rank}.json").write_text(json.dumps(note), encoding="utf-8")


def together(tmp_path: Path, size: int = 2, **case: Any) -> list[dict[str, Any]]:
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    out.mkdir()
    multiprocessing.spawn(worker, args=(size, str(out), case), nprocs=size)
    notes = [json.loads((out / f"note-{r}.json").read_text(encoding="utf-8")) for r in range(size)]
    for rank, note in enumerate(notes):
        if "error" not in note:
            note["weights"] = load_file(out / f"weights-{rank}.safetensors")
    return notes


@pytest.mark.parametrize(
    ("method", "changes", "tokens"),
    [("instatune", {"accumulate": 2}, False), ("sandwich", {}, False), ("instatune", {"accumulate": 2}, True)],
)
def test_two_workers_end_like_one(method, changes, tokens, tmp_path):
    case = {"method": method, "settings": changes, "tokens": tokens}
    net, report = fit(None, case, None)
    one, other = together(tmp_path, **case)
    assert same(one["weights"], other["weights"])
    for name, wanted in weights_of(net).items():
        torch.testing.assert_close(one["weights"][name], wanted, atol=1e-5, rtol=0)
    assert one["loss"] == pytest.approx(report.loss, abs=1e-5)
    assert other["loss"] == one["loss"]
    assert one["images"] == report.images


def test_interrupted_and_resumed_by_two_workers_ends_with_the_same_bits(tmp_path):
    case = {"dropout": 0.2, "settings": {"checkpoint_every": 1}}
    whole = together(tmp_path, **case)
    folder = str(tmp_path / "kept")
    # Worker 0 dies; the other one finds nobody to add up with.
    stopped = together(tmp_path, folder=folder, stop=5, **case)
    assert stopped[0]["error"] == "Killed"
    resumed = together(tmp_path, folder=folder, **case)
    assert [note["resumed"] for note in resumed] == [5, 5]
    for note in resumed:
        assert same(note["weights"], whole[0]["weights"])
    assert not (Path(folder) / "absent").exists()


def test_a_loss_that_is_nan_on_one_worker_stops_all(tmp_path):
    notes = together(tmp_path, poisoned=True)
    assert [note["error"] for note in notes] == [NonFiniteLoss.__name__] * 2
    assert "on another worker" in notes[0]["message"]
    assert "for the subnet" in notes[1]["message"]


def test_a_damaged_checkpoint_is_refused_by_all(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "training.json").write_text("{", encoding="utf-8")
    notes = together(tmp_path, folder=str(folder))
    assert [note["error"] for note in notes] == ["ResumeError"] * 2
    assert all("cannot read the checkpoint" in note["message"] for note in notes)


@pytest.mark.parametrize(("n", "size"), [(7, 3), (1, 2), (8, 2), (0, 2)])
def test_shares_are_the_batch(n, size):
    class Member:
        def __init__(self, rank: int) -> None:
            self.rank, self.size = rank, size

    batch = Batch({"x": torch.arange(n), "y": torch.arange(n) * 2}, torch.arange(n))
    parts = [share(batch, Member(r)) for r in range(size)]
    assert torch.equal(torch.cat([p.targets for p in parts]), batch.targets)
    assert torch.equal(torch.cat([p.inputs["y"] for p in parts]), batch.inputs["y"])
    lengths = [len(p.targets) for p in parts]
    assert max(lengths) - min(lengths) <= 1


class Second:
    rank, size = 1, 2


def test_parts_weigh_what_counts_in_them():
    batches = [
        Batch((torch.arange(3.0),), torch.arange(3), counts=torch.tensor([5, 0, 3])),
        Batch((torch.arange(2.0),), torch.arange(2), counts=torch.tensor([2, 0])),
    ]
    parts = [(p.counts.tolist(), weight, items) for p, weight, items in shares(batches, Alone())]
    assert parts == [([5, 0, 3], 0.8, 0.6), ([2, 0], 0.2, 0.4)]
    parts = [(p.counts.tolist(), weight, items) for p, weight, items in shares(batches, Second())]
    assert parts == [([0, 3], 0.3, 0.4)]
    with pytest.raises(TrainingError, match="none of the targets of a step's batches counts"):
        next(shares([batches[0]._replace(counts=torch.zeros(3))], Alone()))


def test_a_loss_on_layers_is_a_mean_over_items(monkeypatch):
    monkeypatch.setattr("supernets.training.instatune.hidden_loss", lambda *_: torch.tensor(7.0))
    net = ToySupernet(norm=False)
    method = make_method("instatune", net.space, total_steps=1, alpha=1.0, layer_loss=2.0)
    passes = Passes(net, lambda outputs, _: 0 * outputs.sum(), torch.device("cpu"))
    passes.weight, passes.items = 0.25, 0.5
    monkeypatch.setattr(passes, "forward", lambda arch, inputs, **_: net(*inputs))
    values = []
    monkeypatch.setattr(passes, "backward", lambda value, **_: values.append(value.item() * passes.weight))
    method.backward(next(Ragged().batches(0)), method.subnets(0), passes)
    assert values == [0.0, 0.5 * 2 * 7]


def test_what_all_items_have_together_is_not_shared_out():
    texts = torch.arange(6).view(3, 2)
    batch = Batch({"texts": texts, "images": torch.arange(4)}, torch.arange(4), frozenset({"texts"}))
    part = share(batch, Second())
    assert torch.equal(part.inputs["texts"], texts)
    assert part.inputs["images"].tolist() == part.targets.tolist() == [2, 3]
    assert share(part, Second()).inputs["texts"].shape == (3, 2)


def test_a_team_needs_a_process_group():
    with pytest.raises(TrainingError, match="init_process_group"):
        ProcessTeam()
