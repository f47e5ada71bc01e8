"""Training architectures from scratch with a run's own recipe."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nassearch.config import MIXTURE_OPTIONS
from nassearch.console import Console, make_console
from nassearch.errors import ConfigError
from nassearch.problem import Problem, make_problem
from nassearch.runs import SUPERNET_FOLDER, Run
from nassearch.sources import make_source
from nassearch.unit_order import order_units

if TYPE_CHECKING:
    from supernets import Architecture, Supernet
    from supernets.training import TrainReport, TrainSettings

Start = Literal["initial", "random"]
STARTS: tuple[Start, ...] = ("initial", "random")


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained alone.

    Attributes:
        problem: The run's space, task and supernet.
        settings: The run's training settings; the method's options are left out, for there is one network.
        batch_size: Inputs a step.
        start: Whether networks start from the weights with which the run's training began, cut to their size, or from
            random ones.
    """

    problem: Problem
    settings: TrainSettings
    batch_size: int
    start: Start

    def to_json(self) -> dict[str, Any]:
        """Return the settings that change weights, but for the seed, as JSON data."""
        weights = self.settings.weight_settings()
        batches = self.problem.task.describe_training_batches(self.batch_size)
        return batches | {k: v for k, v in weights.items() if k not in ("seed", "options")}

    def start_json(self) -> dict[str, Any]:
        """Return what the first weights depend on, but for the seed, as JSON data."""
        config = self.problem.config
        names = ("checkpoint", "supernet", "model") if self.start == "initial" else ()
        start: dict[str, Any] = {"kind": self.start, **{n: str(p) for n in names if (p := getattr(config, n))}}
        if self.start == "initial" and self.problem.orders_units:
            start["order"] = {"rehearsal": config.train.rehearsal}
        return start

    def first_weights(self, run: Run, seed: int) -> Supernet:
        """Return a plain supernet with the weights from which its architectures start.

        Experts of a run are left out: a mixture of independent ones has smaller weights than a plain network.

        Raises:
            ConfigError: The weights with which the run began are not to be had any more.
        """
        if self.start == "initial":
            options = {k: v for k, v in self.problem.config.model_options.items() if k not in MIXTURE_OPTIONS}
            config = self.problem.config.model_copy(update={"seed": seed, "model_options": options})
            problem = replace(self.problem, config=config, source=make_source(config, self.problem.task))
            net = problem.build_supernet()
            if problem.orders_units:
                # A genotype names the layers that the run's supernet keeps, whatever another head says of them.
                order_units(problem, net, make_console(quiet=True), layers=False)
                net.choose_layers_as(run.supernet())
            return net
        import torch

        from supernets.registry import build_family

        trained = run.supernet()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_family(trained.family, {k: v for k, v in trained.config().items() if k not in MIXTURE_OPTIONS})

    def train(
        self, net: Supernet, arch: Architecture, seed: int, folder: Path, console: Console
    ) -> tuple[Supernet, TrainReport]:
        """Train one architecture alone; one that was interrupted goes on from its checkpoint.

        Args:
            net: From `first_weights`; not changed.
            arch: The architecture.
            seed: Of the order of the data and of dropout.
            folder: Of the checkpoint.
            console: Where progress is shown.

        Raises:
            NonFiniteLoss: The training diverged.
        """
        from supernets.fixed import FixedSupernet
        from supernets.training import RichProgress, train

        alone = FixedSupernet(net, arch)
        with RichProgress(console=console) as progress:
            report = train(
                alone,
                self.problem.task.training_data(self.batch_size, seed=seed),
                self.problem.loss,
                method="single-path",  # which has one path to choose from
                settings=replace(self.settings, seed=seed),
                score=None,
                checkpoint_dir=folder,
                resume=True,
                progress=progress,
                data_fingerprint=self.problem.task.fingerprint,
            )
        return alone, report


def make_recipe(run: Run, *, epochs: int | None = None, start: Start | None = None) -> Recipe:
    """Return the recipe of a run.

    Args:
        run: The run; its supernet is trained.
        epochs: Passes over the data instead of the run's.
        start: See `Recipe`. Default: ``initial`` where the run trained its supernet from other than a supernet's
            weights, else ``random``.

    Raises:
        ConfigError: The run has no trained supernet or recipe, or its data or space are not what they were.
    """
    if start is not None and start not in STARTS:
        raise ConfigError(f"--start {start!r} is unknown; choose from {', '.join(STARTS)}")
    if not (run.folder / SUPERNET_FOLDER / "supernet.json").is_file():
        raise ConfigError(
            f"{run.folder} has no trained supernet in {SUPERNET_FOLDER}/; go on with the run: nassearch run --resume "
            f"{run.folder}"
        )
    config, method = run.config, run.config.train_method
    if method == "none" and epochs is None:
        origin = config.supernet or config.checkpoint or "its options"
        raise ConfigError(
            f"{run.folder} took its supernet from {origin} and did not train it, so its recipe is not known; give the "
            "run that trained it, or --epochs N for the task's own recipe"
        )
    chosen: Start = start or ("initial" if method != "none" and not config.supernet else "random")
    first: Mapping[str, Any] = {} if chosen == "initial" else {"checkpoint": None, "supernet": None}
    train = config.train.model_copy(update={"method": method})
    if method == "none":
        train = config.train.model_copy(update={"method": "single-path", "options": {}})
    quiet: dict[str, Any] = {
        "warm_start": [],
        "reuse": [],
        "constraints": [],
        "objectives": ["params_m:min"],
        "strategy": "random",
    }
    quiet |= {"strategy_options": {}, "latency": []}  # nothing is searched or measured
    # From random weights a pre-trained model is not needed, and it may be gone.
    known_space = run.space if chosen == "random" else None
    problem = make_problem(config.model_copy(update={**quiet, **first, "train": train}), run.started_in, known_space)
    if problem.space.identity != run.space.identity:
        raise ConfigError(
            f"the space {run.config.space!r} is {problem.space.identity} now, that of {run.folder} was "
            f"{run.space.identity}; use the version that made the run"
        )
    known = run.manifest.get("data_fingerprint")
    if known != problem.task.fingerprint:
        raise ConfigError(
            f"the data of task {config.task!r} have fingerprint {problem.task.fingerprint}, those of {run.folder} had "
            f"{known}; restore the data"
        )
    if problem.training is None:
        raise AssertionError("a method was given")
    if problem.training.lora_rank or problem.training.freeze:
        raise ConfigError(
            f"{run.folder} trained low-rank adapters alone, or with frozen parameters (lora_rank, freeze), which a "
            "network trained alone cannot have; give a run that trained all weights"
        )
    settings = replace(problem.training, options={}, evaluate_every=0, gradient_checkpointing=False)
    if epochs is not None:
        settings = replace(settings, epochs=epochs, steps=None)
    if faults := settings.faults():
        raise ConfigError([f"--epochs: {f}" for f in faults])
    size = config.train.batch_size or int(problem.task.training_defaults.get("batch_size", 128))
    return Recipe(problem, settings, size, chosen)


def clear_checkpoints(folder: Path, keep: str | None = None) -> None:
    """Remove the checkpoints of finished trainings."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name != keep:
            shutil.rmtree(path)
