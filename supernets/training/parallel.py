"""Training by several workers: each takes its share of every batch, and all make the same step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import torch as safetensors
from torch import Tensor, distributed

from supernets.base import Inputs
from supernets.training.checkpoint import has_checkpoint, load_checkpoint
from supernets.training.data import Batch
from supernets.training.errors import ResumeError, TrainingError

_BUCKET = 2**23  # numbers summed at a time: the copy that a sum needs stays small


class Team(Protocol):
    """The workers of a training; every method but the properties is called by all of them, in the same order."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0; number 0 writes checkpoints and reports progress."""
        ...

    @property
    def size(self) -> int:
        """Number of workers."""
        ...

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by the sum over all workers, in place: the same bits for each."""
        ...

    def copy_first(self, tensor: Tensor) -> None:
        """Replace a tensor by that of worker 0, in place."""
        ...


class Alone:
    """A team of one."""

    rank = 0
    size = 1

    def add_up(self, tensor: Tensor) -> None:
        """Leave the tensor: it is the sum."""

    def copy_first(self, tensor: Tensor) -> None:
        """Leave the tensor: it is worker 0's."""


class ProcessTeam:
    """The workers of the process group of `torch.distributed` that this process has joined.

    Raises:
        TrainingError: It has joined none.
    """

    def __init__(self) -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            raise TrainingError(
                "this process belongs to no process group; call torch.distributed.init_process_group first, or train "
                "without a team"
            )
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by the sum over all workers, in place."""
        distributed.all_reduce(tensor)

    def copy_first(self, tensor: Tensor) -> None:
        """Replace a tensor by that of worker 0, in place."""
        distributed.broadcast(tensor, src=0)


def share(batch: Batch, team: Team) -> Batch:
    """Return this worker's part of a batch: shares differ by one input at most, and may be empty.

    What all items have together, `Batch.shared`, stays whole.
    """
    n = len(batch.targets)
    part = slice(n * team.rank // team.size, n * (team.rank + 1) // team.size)
    inputs = batch.inputs
    mine: Inputs
    if isinstance(inputs, tuple):
        mine = tuple(x[part] for x in inputs)
    else:
        mine = {k: x if k in batch.shared else x[part] for k, x in inputs.items()}
    counts = None if batch.counts is None else batch.counts[part]
    return batch._replace(inputs=mine, targets=batch.targets[part], counts=counts)


def start_alike(tensors: Sequence[Tensor], team: Team) -> None:
    """Give all workers the weights and buffers of worker 0."""
    if team.size == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            team.copy_first(whole)
            tensor.copy_(whole)


def add_up_gradients(weights: Sequence[Tensor], team: Team) -> None:
    """Replace each weight's gradient by the sum over the workers; one that no worker has stays None.

    A worker whose share is empty has none of its own.
    """
    if team.size == 1:
        return
    found = torch.tensor([float(w.grad is not None) for w in weights], device=weights[0].device)
    team.add_up(found)
    used = [w for w, n in zip(weights, found.tolist(), strict=True) if n]
    for weight in used:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    for bucket in _buckets([w.grad for w in used if w.grad is not None]):
        flat = torch.cat([g.reshape(-1) for g in bucket])
        team.add_up(flat)
        start = 0
        for gradient in bucket:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield groups of tensors of one type and of a limited size."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def read_checkpoint(folder: Path, team: Team, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the checkpoint in worker 0's folder, None if there is none; the other workers need not see the folder.

    Raises:
        ResumeError: It is damaged or not ours.
    """
    if team.size == 1:
        return load_checkpoint(folder) if has_checkpoint(folder) else None
    tensors: dict[str, Tensor] = {}
    note: dict[str, Any] = {}
    if team.rank == 0 and has_checkpoint(folder):
        try:
            tensors, record = load_checkpoint(folder)
            note = {"record": record}
        except ResumeError as error:  # the others wait for an answer
            note = {"error": str(error)}
    note = json.loads(_from_first(json.dumps(note).encode(), team, device))
    if "error" in note:
        raise ResumeError(note["error"])
    if "record" not in note:
        return None
    return safetensors.load(_from_first(safetensors.save(tensors), team, device)), note["record"]


def _from_first(data: bytes, team: Team, device: torch.device) -> bytes:
    """Return worker 0's bytes."""
    length = torch.tensor([len(data)], device=device)
    team.copy_first(length)
    buffer = torch.empty(int(length), dtype=torch.uint8, device=device)
    if team.rank == 0:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    team.copy_first(buffer)
    return buffer.cpu().numpy().tobytes()
