"""Where a run's supernet is trained: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from pathlib import Path

from nassearch.console import Console
from nassearch.places import executor_settings
from nassearch.problem import Problem
from nassearch.unit_order import ordered_supernet
from supernets import Supernet


def train_supernet(problem: Problem, net: Supernet, folder: Path, console: Console) -> Supernet:
    """Return a run's supernet trained, going on from the checkpoint in the folder if there is one.

    On Ray with several workers each takes its share of every batch, see `supernets.training.train`.

    Args:
        problem: The run; its training is not None.
        net: The supernet with its first weights; may be changed.
        folder: Of the training's checkpoint; where several machines train, all that may be worker 0 must see it.
        console: Where progress is shown.

    Raises:
        ConfigError: The cluster cannot be used.
        TrainingError: The training cannot go on; the message says why.
    """
    from supernets.training import RichProgress, train

    settings, config = problem.training, problem.config
    assert settings is not None  # noqa: S101 - for the type checker
    if problem.orders_units:
        net = ordered_supernet(problem, net, folder, console)
    with RichProgress(console=console) as progress:
        if shared_by_workers(problem):
            from nassearch.executors.ray_training import train_on_ray

            train_on_ray(problem, net, folder, executor_settings(problem), progress)
        # What the workers have finished is read from their last checkpoint.
        train(
            net,
            problem.training_data(),
            problem.loss,
            method=config.train_method,
            settings=settings,
            checkpoint_dir=folder,
            resume=folder.exists(),
            progress=progress,
            data_fingerprint=problem.task.fingerprint,
        )
    return net


def shared_by_workers(problem: Problem) -> bool:
    """Return whether several workers train a run's supernet together."""
    executor = problem.config.executor
    return problem.training is not None and executor.name == "ray" and executor.num_workers > 1
