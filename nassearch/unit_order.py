"""Order of a supernet's units by importance, before a run trains it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nassearch.console import Console
from supernets import Supernet

if TYPE_CHECKING:
    from nassearch.problem import Problem

_KEPT = "ordered"


def order_faults(problem: Problem, net: Supernet) -> list[str]:
    """Return what is wrong with the settings of the order: those that would have no effect."""
    train = problem.config.train
    given = [f"train.{name}" for name in ("rehearsal", "order_layers") if getattr(train, name) is not None]
    if given and not problem.orders_units:
        return [
            f"{' and '.join(given)} have no effect: units are not ordered before this training; give "
            "--importance-order (method instatune does so by itself), or leave that out"
        ]
    if given and not net.scores_by_gradient:
        return [
            f"{' and '.join(given)} have no effect: supernets of family {net.family!r} order their units by the size "
            "of their weights; leave that out"
        ]
    return []


def rehearsed_steps(problem: Problem, net: Supernet) -> int:
    """Return for how many steps a copy is fine-tuned before the units are scored; 0: they are scored as they are."""
    from supernets.training import rehearsal_steps

    asked, settings = problem.config.train.rehearsal, problem.training
    if asked is not None or settings is None:
        return asked or 0
    new = net.scores_by_gradient and problem.source.new_weights
    return rehearsal_steps(settings.total_steps(problem.training_data().steps_per_epoch)) if new else 0


def order_units(problem: Problem, net: Supernet, console: Console, *, layers: bool = True) -> None:
    """Order the units of a supernet by what the task's loss on the calibration split says of them.

    Args:
        problem: The run; it orders units.
        net: The supernet with its first weights; permuted in place.
        console: Where the progress of a rehearsal is shown.
        layers: Whether layers may be ordered, too, if the settings say so.

    Raises:
        TrainingError: The rehearsal diverged.
    """
    from supernets.training import Rehearsal, RichProgress, TrainingError, sort_units

    assert problem.training is not None  # noqa: S101 - `orders_units`
    steps = rehearsed_steps(problem, net)
    if steps:
        console.print(f"units are ordered by importance: a copy of the supernet is fine-tuned for {steps} steps")
    with RichProgress(console=console) as progress:
        rehearsal = Rehearsal(problem.training_data(), steps, problem.training, progress) if steps else None
        try:
            sort_units(
                net,
                problem.task.batches("calibration", problem.training_batch_size),
                problem.loss,
                layers=layers and problem.config.train.order_layers is not False,
                rehearsal=rehearsal,
            )
        except TrainingError as error:
            hint = "while units were ordered (train.rehearsal=0 scores them as they are)"
            raise TrainingError(f"{hint}: {error}") from error


def ordered_supernet(problem: Problem, net: Supernet, folder: Path, console: Console) -> Supernet:
    """Return a supernet with its units in order: the one that a stopped run has kept, or this one, which is kept.

    Args:
        problem: The run; it orders units.
        net: The supernet with its first weights; may be changed.
        folder: Of the training.
        console: Where progress is shown.

    Raises:
        ResumeError: The training was begun without an order that was kept.
        TrainingError: The rehearsal diverged.
    """
    from supernets import is_saved, load, save
    from supernets.training import ResumeError, has_checkpoint

    kept = folder / _KEPT
    if is_saved(kept):
        return load(kept)
    if has_checkpoint(folder):
        raise ResumeError(
            f"{folder} holds a checkpoint without the order of units that its training began with (an earlier version "
            "wrote it); delete the folder to train anew"
        )
    order_units(problem, net, console)
    save(net.cpu(), kept)
    return net
