"""The training loop of supernets, with exact resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from supernets.base import Supernet
from supernets.training.checkpoint import has_checkpoint
from supernets.training.data import Batch, TrainingData, batch_to, first_inputs, training_stream
from supernets.training.errors import InvalidSettings, NonFiniteLoss, ResumeError, TrainingError, UnknownMethod
from supernets.training.evaluation import Score, evaluate_subnet, settle_statistics, top1_score
from supernets.training.freezing import freeze_faults, frozen
from supernets.training.methods import Method, make_method
from supernets.training.optimisation import learning_rate, make_optimizer, set_learning_rate
from supernets.training.parallel import Alone, Team, add_up_gradients, read_checkpoint, share, start_alike
from supernets.training.passes import Loss, Passes, amp_dtype
from supernets.training.progress import ProgressCallback, TrainProgress
from supernets.training.report import TrainReport
from supernets.training.session import Session
from supernets.training.settings import TrainSettings


def train(
    net: Supernet,
    data: TrainingData,
    loss: Loss,
    *,
    method: str,
    settings: TrainSettings,
    score: Score | None = top1_score,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    device: torch.device | str | None = None,
    data_fingerprint: str | None = None,
    team: Team | None = None,
) -> TrainReport:
    """Train a supernet; afterwards its largest subnet is active and it is in eval mode.

    The weights are a function of the supernet, the data and the settings: a training that was interrupted at
    any moment and is resumed ends with the same ones, bit for bit, where the device computes reproducibly.
    PyTorch's global random state is left as it was.

    Args:
        net: The supernet; trained in place.
        data: Batches for training, calibration and evaluation.
        loss: Outputs and targets -> scalar tensor, a mean over the batch: over its items, or over what `Batch.counts`
            says.
        method: One of `list_methods`.
        settings: How to train, and the method's options.
        score: Outputs and targets -> sum of scores (0-100 each) and their number, for progress; None: no
            evaluation.
        checkpoint_dir: Folder of this training's checkpoint. Default: none is kept.
        resume: Go on from the checkpoint in the folder, or start where there is none.
        progress: Called after every step.
        device: Where to train. Default: CUDA where there is some.
        data_fingerprint: Identity of the data; a resumed training must have the same.
        team: The workers that train together, each of which calls this function with an equal supernet and equal data.
            Each takes its share of every batch; the gradients are those of the whole batch. Normalisation while
            training is by each worker's own share; dropout is drawn by each on its own. Worker 0 alone keeps
            checkpoints, evaluates, and calls ``progress``. Default: this process alone.

    Raises:
        UnknownMethod: No such method; the message suggests the nearest name.
        InvalidSettings: Wrong settings or options, all of them together.
        ResumeError: The checkpoint is of another training, damaged, or would be overwritten.
        NonFiniteLoss: The loss became NaN or infinite; the checkpoint is from before.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)
    algorithm = prepare(method, settings, net, data, target)
    team = team or Alone()
    first_worker = team.rank == 0
    if first_worker and folder is not None and has_checkpoint(folder) and not resume:
        raise ResumeError(
            f"{folder} holds the checkpoint of a training; resume it (resume=True), or choose another folder"
        )
    net.to(target)
    with _adapters(net, settings):
        passes = Passes(net, loss, target, settings.amp, recompute=settings.gradient_checkpointing)
        session = Session(net, algorithm, passes, settings, data, data_fingerprint)
        kept = read_checkpoint(folder, team, target) if folder is not None and resume else None
        if folder is not None and kept is not None:
            session.load(folder, *kept)
        start_alike(list(net.state_dict().values()), team)
        first, total, began = session.step, session.total, time.monotonic()
        net.activate(algorithm.largest)
        net.train()
        optimizer: Optimizer | None = session.optimizer
        batches = training_stream(data, session.step * settings.accumulate)
        with _own_randomness(target), frozen(net, settings.freeze):
            while session.step < total:
                step, phase = session.step, algorithm.phase(session.step)
                step_began = time.monotonic()
                if step == phase.start:
                    if step > 0:
                        settle_statistics(net, first_inputs(data, settings.calibration_batches, target))
                    algorithm.enter(phase, net)
                    optimizer = session.optimizer = make_optimizer(net, settings)
                assert optimizer is not None  # noqa: S101 - made on entering the phase, or loaded
                lr = learning_rate(step, phase, settings)
                set_learning_rate(optimizer, lr)
                seed_step(settings.seed, step, target, team.rank)

                subnets = algorithm.subnets(step)
                group = [batch_to(b, target) for b in islice(batches, settings.accumulate)]
                optimizer.zero_grad(set_to_none=True)
                passes.start(step)
                for batch, weight, items in shares(group, team):
                    passes.weight, passes.items = weight, items
                    algorithm.backward(batch, subnets, passes)
                value = _finite_loss(passes, step, phase.name, lr, folder, team)
                add_up_gradients([w for group in optimizer.param_groups for w in group["params"]], team)
                _update(optimizer, passes, settings)

                images = sum(len(b.targets) for b in group)
                session.count(images, value, images / max(time.monotonic() - step_began, 1e-9))
                last = session.step == total
                if last:
                    settle_statistics(net, first_inputs(data, settings.calibration_batches, target))
                if (
                    first_worker
                    and score is not None
                    and (last or _every(settings.evaluate_every, session.step, total))
                ):
                    quality = [
                        evaluate_subnet(
                            net,
                            arch,
                            data,
                            score,
                            device=target,
                            batches=settings.evaluate_batches,
                            calibration_batches=settings.calibration_batches,
                        )
                        for arch in (algorithm.largest, algorithm.smallest)
                    ]
                    session.record(*quality)
                due = settings.checkpoint_every > 0 and session.step % settings.checkpoint_every == 0
                if folder is not None and (last or due):
                    session.check_weights(folder)
                    if first_worker:
                        session.save(folder, time.monotonic() - began)
                if first_worker and progress is not None:
                    progress(_state(session, phase.name, lr))
        net.activate(algorithm.largest)
        net.eval()
        return session.report(first, time.monotonic() - began)


def prepare(
    method: str, settings: TrainSettings, net: Supernet, data: TrainingData, device: torch.device | str = "cpu"
) -> Method:
    """Check settings and options together and return the method.

    Raises:
        UnknownMethod: No such method.
        InvalidSettings: Wrong settings or options, all of them together.
    """
    faults = settings.faults()
    total = 10**9  # an unusable number of steps is one fault, not two
    if not faults:
        total = settings.total_steps(data.steps_per_epoch)
        faults = freeze_faults(net, settings.freeze)
    if settings.gradient_checkpointing is True and not net.active_layers():
        faults.append(
            f"gradient_checkpointing: supernets of family {net.family!r} do not tell layers that may run twice (their "
            "normalisation statistics would count double); leave it out, or lower the batch size and raise accumulate"
        )
    if not faults and settings.lora_rank and not net.adapter_targets(settings.lora_targets):
        some = ", ".join(net.adapter_targets(("*",))[:3])
        faults.append(
            f"lora_rank: no elastic linear layer of the supernet matches lora_targets {list(settings.lora_targets)}"
            + (f"; there are {some} …" if some else f": family {net.family!r} has none; set lora_rank=0")
        )
    options = settings.options if isinstance(settings.options, Mapping) else {}
    try:
        seed = settings.seed if isinstance(settings.seed, int) else 0
        algorithm = make_method(method, net.space, total_steps=total, seed=seed, **options)
        algorithm.check(net)
    except InvalidSettings as error:
        raise InvalidSettings([*faults, *error.faults]) from None
    except UnknownMethod as error:
        if faults:
            raise InvalidSettings([str(error), *faults]) from None
        raise
    if faults:
        raise InvalidSettings(faults)
    amp_dtype(settings.amp, torch.device(device))
    return algorithm


def shares(batches: list[Batch], team: Team) -> Iterator[tuple[Batch, float, float]]:
    """Yield this worker's part of each batch of a step, with its weights among all parts of all batches.

    The first weight is for means over what counts, so that their sum is the mean over all of it; the second for means
    over items. Parts in which nothing counts are left out.

    Raises:
        TrainingError: Nothing counts in any of the batches.
    """
    total, items = sum(b.weight for b in batches), sum(len(b.targets) for b in batches)
    if not total:
        raise TrainingError("none of the targets of a step's batches counts; leave such items out of the data")
    for batch in batches:
        part = share(batch, team)
        if part.weight:
            yield part, part.weight / total, len(part.targets) / items


def seed_step(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
    """Seed PyTorch for a step, so that dropout is the same in a resumed training, and another on each worker."""
    (state,) = np.random.SeedSequence([seed, step, rank] if rank else [seed, step]).generate_state(1, np.uint64)
    torch.default_generator.manual_seed(int(state) % 2**63)
    if device.type == "cuda":
        torch.cuda.manual_seed(int(state) % 2**63)


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def _adapters(net: Supernet, settings: TrainSettings) -> Iterator[None]:
    """Train low-rank adapters alone, if the settings say so; afterwards, and after errors, the supernet is plain."""
    if settings.lora_rank == 0:
        yield
        return
    alpha = settings.lora_rank if settings.lora_alpha is None else settings.lora_alpha
    net.add_adapters(
        rank=settings.lora_rank,
        alpha=alpha,
        targets=settings.lora_targets,
        train=settings.lora_train,
        seed=settings.seed,
    )
    try:
        yield
    finally:
        net.merge_adapters()


def _finite_loss(passes: Passes, step: int, phase: str, lr: float, folder: Path | None, team: Team) -> float:
    """Return the loss of the step's first subnet on the whole batch, after checking those of all subnets."""
    kept = f"the checkpoint in {folder} is from before" if folder is not None else "no checkpoint was kept"
    hint = f"{kept}. Lower lr, set clip_norm, lengthen warmup, or set amp='off'"
    bad: str | None = None
    mine = [0.0, 0.0]
    if passes.values:  # none where a worker's share was empty
        values = torch.stack([value.float() for _, _, value in passes.values])
        wrong = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if wrong:
            arch, _, value = passes.values[wrong[0]]
            bad = (
                f"the loss became {float(value)} in step {step + 1} (phase {phase!r}, learning rate {lr:g}) for the "
                f"subnet {dict(arch)}; {hint}"
            )
        first = passes.values[0][0]
        parts = [(w, float(v)) for (arch, w, _), v in zip(passes.values, values, strict=True) if arch is first]
        mine = [sum(w * v for w, v in parts), sum(w for w, _ in parts)]
    if team.size == 1:
        total, weight, failures = *mine, float(bad is not None)
    else:  # a worker that stopped alone would leave the others waiting
        # Float32, as not every device has more.
        sums = torch.tensor([*(mine if bad is None else (0.0, 0.0)), float(bad is not None)], device=passes.device)
        team.add_up(sums)
        total, weight, failures = sums.tolist()
    if failures:
        raise NonFiniteLoss(bad or f"the loss became NaN or infinite on another worker in step {step + 1}; {hint}")
    return total / weight


def _update(optimizer: Optimizer, passes: Passes, settings: TrainSettings) -> None:
    if settings.clip_norm is not None:
        passes.scaler.unscale_(optimizer)
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm)
    passes.scaler.step(optimizer)
    passes.scaler.update()


def _every(steps: int | None, step: int, total: int) -> bool:
    interval = max(1, total // 10) if steps is None else steps
    return interval > 0 and step % interval == 0


def _state(session: Session, phase: str, lr: float) -> TrainProgress:
    latest: dict[str, Any] = session.history[-1] if session.history else {}
    return TrainProgress(
        step=session.step,
        total=session.total,
        phase=phase,
        loss=session.loss,
        lr=lr,
        top1_largest=latest.get("top1_largest"),
        top1_smallest=latest.get("top1_smallest"),
        images_per_second=session.images_per_second,
    )
