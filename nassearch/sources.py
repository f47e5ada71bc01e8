"""Where the space of a run and the first weights of its supernet come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nassearch.config import RunConfig
from nassearch.errors import ConfigError
from search_spaces import SearchSpace, get_space

if TYPE_CHECKING:
    from nassearch.tasks import Task
    from supernets import Inputs, Supernet


@dataclass
class Source:
    """A space, and how its supernet is made.

    Attributes:
        space: The space.
        make: Makes the supernet with its first weights; the same at each call.
        notes: What a user should know of it.
        new_weights: Whether some weights of a pre-trained model have learned nothing, as those of a new head. Known
            once a supernet was made.
    """

    space: SearchSpace
    make: Callable[[], Supernet]
    notes: tuple[str, ...] = ()
    new_weights: bool = False
    _made: list[Supernet] = field(default_factory=list, repr=False)

    def build(self) -> Supernet:
        """Return a supernet that nobody else has."""
        return self._made.pop() if self._made else self.make()


def is_converted(config: RunConfig) -> bool:
    """Return whether a run's space is that of a model, not of a name."""
    from supernets import conversion_spaces

    return config.space in conversion_spaces()


def named_space(config: RunConfig) -> SearchSpace:
    """Return the space of a registered name.

    Raises:
        ConfigError: There is none, or it has no supernet.
    """
    from supernets import conversion_spaces, list_supernets

    try:
        space = get_space(config.space)
    except ValueError as error:
        spaces = ", ".join(conversion_spaces())
        raise ConfigError(f"{error}; of a pre-trained model (--model): {spaces}") from None
    if config.space not in list_supernets():
        raise ConfigError(f"search space {config.space!r} has no supernet; with one are: {', '.join(list_supernets())}")
    return space


def named_source(config: RunConfig, space: SearchSpace, task: Task) -> Source:
    """Return the source of a registered name."""

    def make() -> Supernet:
        import torch

        from supernets import build, supernet_options

        known = supernet_options(config.space)
        options = {k: v for k, v in task.model_options.items() if k in known} | config.model_options
        if config.checkpoint:
            options["checkpoint"] = config.checkpoint
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return build(config.space, **options)

    return Source(space, make)


def converted_source(config: RunConfig, task: Task) -> Source:
    """Return the source of a model: loaded with the task's head and converted once, to know the space.

    Raises:
        ConfigError: The model cannot be loaded or converted; the message says what is possible.
    """
    import torch

    from nassearch.pretrained import load_pretrained
    from supernets import (
        SupernetError,
        convert,
        converts_in_place,
        load,
        space_of,
        wants_calibration,
        wants_training,
    )
    from supernets.registry import AUTO

    saved = config.supernet
    if saved is not None:  # the supernet of an earlier run, from which the space comes, too
        try:
            net = load(saved)
        except SupernetError as error:
            raise ConfigError(str(error)) from error
        return Source(net.space, lambda: load(saved), (), False, [net])
    assert config.model is not None  # noqa: S101 - `check_model` has refused it
    name: str = config.model
    notes: tuple[str, ...] = ()
    new_weights = False

    def make() -> Supernet:
        nonlocal notes, new_weights
        trust, offload = config.trust_remote_code, config.offload
        loaded = load_pretrained(name, task, seed=config.seed, trust_remote_code=trust, offload=offload)
        notes, new_weights = loaded.notes, loaded.new_weights
        own = space_of(loaded.module)
        if config.space == AUTO and own is not None and own != AUTO:
            raise ConfigError(
                f"--model {name} has a space of its own: give --space {own} instead of --space {AUTO}"
                + ("" if wants_training(own) else "; it is not trained then, unless --train names a method")
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # of the noise of a mixture's experts
            options = dict(config.model_options)
            if offload is not None:
                if not converts_in_place(loaded.module, config.space):
                    raise ConfigError(
                        f"--offload {offload}: in --space {config.space} the supernet of a "
                        f"{type(loaded.module).__name__} has weights of its own, in memory; leave it out"
                    )
                options["copy"] = False
            if "calibration" not in options and wants_calibration(loaded.module, config.space):
                options["calibration"] = _calibration(config, task)
            return convert(loaded.module, space=config.space, **options)

    try:
        net = make()
    except SupernetError as error:
        raise ConfigError(f"--model {name}: {error}") from error
    except TypeError as error:
        raise ConfigError(f"model_options of --space {config.space}: {error}") from error
    return Source(net.space, make, notes, new_weights, [net])


def _calibration(config: RunConfig, task: Task) -> Any:
    """Return calibration inputs in batches; an equal number by domain where the data tell several."""
    size, batch_size = config.evaluation.calibration_size, config.evaluation.batch_size
    names = list(task.inputs_by_domain("calibration", batch_size))
    if len(names) < 2:
        return task.calibration_inputs(batch_size, size)
    share = max(1, size // len(names))
    parts = task.inputs_by_domain("calibration", min(batch_size, share))
    return {name: list(_first(batches, share)) for name, batches in parts.items()}


def _first(batches: Iterable[Inputs], n: int) -> Iterator[Inputs]:
    """Yield the first n items of batches of texts, inputs by name; a task may make them smaller than asked."""
    for inputs in batches:
        if n <= 0:
            return
        assert isinstance(inputs, Mapping)  # noqa: S101 - data of domains are texts
        part = {name: t[:n] for name, t in inputs.items()}
        n -= len(next(iter(part.values())))
        yield part


def make_source(config: RunConfig, task: Task, space: SearchSpace | None = None) -> Source:
    """Return the source of a run's supernet.

    Args:
        config: The run's configuration.
        task: Its task.
        space: Its space, where that is known; a model then is not loaded before it is needed.

    Raises:
        ConfigError: There is no such space, or the model cannot be loaded or converted.
    """
    if not is_converted(config):
        return named_source(config, named_space(config) if space is None else space, task)
    if space is None:
        return converted_source(config, task)

    def make() -> Supernet:
        known = converted_source(config, task)
        later.new_weights = known.new_weights
        return known.build()

    later = Source(space, make)
    return later


def check_model(config: RunConfig) -> list[str]:
    """Return what is wrong with how a model and the space are named together."""
    from supernets import conversion_spaces

    if not is_converted(config):
        if config.model is not None:
            spaces = " or ".join(f"--space {name}" for name in conversion_spaces())
            return [f"--model {config.model} becomes a supernet with {spaces}; --space {config.space} has its own"]
        return []
    faults = []
    if config.model is None and config.supernet is None:
        faults.append(f"--space {config.space} is the space of a pre-trained model; name it by --model DIR_OR_HUB_ID")
    if config.offload is not None and config.model is None:
        faults.append("--offload leaves the layers of --model on disk; there is none, leave it out")
    if config.checkpoint is not None:
        faults.append(f"--checkpoint is for named spaces; the weights of --space {config.space} are those of --model")
    return faults
