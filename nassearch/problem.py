"""From a configuration to its parts: space, task, supernet, objectives, …, checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nassearch.config import RunConfig, import_plugins
from nassearch.constraints import Constraint, parse_constraints
from nassearch.errors import ConfigError
from nassearch.evaluation import EvaluationSettings, inputs_fault, measured_inputs, timing_options
from nassearch.metrics import ANALYTIC, canonical, fault_of, is_measured
from nassearch.objectives import Objective, parse_objectives
from nassearch.problem_checks import (
    check_subnet,
    impossible,
    no_device,
    order_fault,
    unmeasurable,
    unshown,
    unused_choices,
)
from nassearch.sources import Source, check_model, is_converted, make_source, named_space
from search_spaces import SearchSpace
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from nassearch.tasks import Task
    from predictors import LatencySetting
    from supernets import Supernet
    from supernets.training import TrainingData, TrainSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """The parts of a run that its configuration names."""

    config: RunConfig
    source: Source
    task: Task
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    latency: Mapping[str, LatencySetting]
    training: TrainSettings | None

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.source.space

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that an evaluation must bring, objectives first, none twice."""
        names = [o.metric for o in self.objectives] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))

    def evaluation_settings(self) -> EvaluationSettings:
        """Return how architectures are evaluated."""
        e = self.config.evaluation
        return EvaluationSettings(self.metrics, self.latency, e.batch_size, e.calibration_size, e.device)

    def build_supernet(self) -> Supernet:
        """Build the supernet with its first, published or already trained weights.

        Raises:
            ConfigError: Options, checkpoint or folder do not fit.
        """
        from supernets import SupernetError, load

        try:
            if self.config.supernet:
                net = load(self.config.supernet)
                if net.space.identity != self.space.identity:
                    raise ConfigError(
                        f"{self.config.supernet} holds a supernet of space {net.space.name!r} "
                        f"({net.space.identity}), the run is of {self.space.name!r} ({self.space.identity})"
                    )
                self._check_options(net)
            else:
                net = self.source.build()
            self._check_fits_task(net)
            self._check_costs(net)
            return net
        except SupernetError as error:
            raise ConfigError(str(error)) from error

    def _check_fits_task(self, net: Supernet) -> None:
        """Refuse a supernet with other inputs or outputs than the task's, unless the user asked for more classes."""
        config = net.config()
        wrong = [
            f"{name}={config[name]}, the task needs {name}={wanted}"
            for name, wanted in self.task.model_options.items()
            if name in config and config[name] != wanted and not self._asked_for_more(name, wanted)
        ]
        fault = f"it has {'; '.join(wrong)}" if wrong else inputs_fault(net, self.task) or order_fault(net, self.task)
        if fault:
            source = self.config.supernet or self.space.name
            raise ConfigError(
                f"the supernet {source} does not fit task {self.config.task!r}: {fault}. Choose a supernet or a task "
                "that fits"
            )

    def _check_costs(self, net: Supernet) -> None:
        """Refuse metrics of costs that the supernet does not have, such as active experts where there are none."""
        has = net.analytic(self.space.largest[None])
        if lacks := [m for m in self.metrics if m in ANALYTIC and m not in has]:
            raise ConfigError(
                f"space {self.space.name!r} has no {', '.join(lacks)} ({'; '.join(ANALYTIC[m] for m in lacks)}); of "
                f"the metrics that are computed it has {', '.join(m for m in ANALYTIC if m in has)}"
            )

    def _check_options(self, net: Supernet) -> None:
        """Refuse options of a mixture or a conversion that a trained supernet does not have."""
        spec, options = net.mixture.spec if net.mixture is not None else None, self.config.model_options
        has = {"mixture": spec.kind if spec else "none", "experts": spec.experts if spec else None}
        wrong = [f"{n}={options[n]} (it has {v})" for n, v in has.items() if options.get(n, v) != v]
        wrong += unused_choices(net.config(), options)
        if wrong:
            raise ConfigError(
                f"the supernet {self.config.supernet} is trained already and cannot have {', '.join(wrong)}; leave "
                "that out, or train another supernet"
            )

    def _asked_for_more(self, name: str, wanted: Any) -> bool:
        return name == "num_classes" and isinstance(n := self.config.model_options.get(name), int) and n > wanted

    def check_latency(self, net: Supernet) -> None:
        """Check that the latency settings can be given to the supernet, before any work.

        Raises:
            ConfigError: With everything that is wrong.
        """
        from predictors.errors import MeasurementError
        from predictors.measurement.inputs import check_inputs

        faults = _Faults()
        for setting in dict.fromkeys(self.latency.values()):
            if (fault := net.timing_fault(timing_options(setting))) is not None:
                faults.append(f"latency setting {str(setting)!r}: {fault}")
                continue
            for row in (self.space.smallest, self.space.largest):
                arch = self.space.decode(row[None])[0]
                try:
                    check_inputs(measured_inputs(net, arch, setting), setting)
                except (ConfigError, MeasurementError) as error:
                    faults.append(str(error))
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))

    def check_behaviours(self, net: Supernet) -> None:
        """Check that the supernet shows the metrics that only it can show, before any work.

        Raises:
            ConfigError: With everything that is wrong.
        """
        if faults := unshown(net, self.task, self.metrics):
            raise ConfigError(faults)

    def training_data(self) -> TrainingData:
        """Return the batches on which the supernet is trained."""
        return self.task.training_data(self.training_batch_size, seed=self.config.seed)

    @property
    def training_batch_size(self) -> int:
        """Inputs in a training batch, those of all workers together."""
        return self.config.train.batch_size or int(self.task.training_defaults.get("batch_size", 128))

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the task's loss on the logits in a supernet's outputs, a scalar."""
        from supernets.training import logits_of

        return self.task.loss(logits_of(outputs), targets)

    @property
    def orders_units(self) -> bool:
        """Whether the units of the supernet are ordered by importance before the training."""
        if self.training is None:
            return False
        from supernets.training import orders_units

        asked = self.config.train.importance_order
        return orders_units(self.config.train_method) if asked is None else asked

    def check_training(self, net: Supernet) -> None:
        """Check the settings and options of the training, if there is one, before any work.

        Raises:
            ConfigError: With everything that is wrong.
        """
        from nassearch.unit_order import order_faults
        from supernets import SupernetError
        from supernets.training import prepare

        if faults := order_faults(self, net):
            raise ConfigError(faults)
        if self.training is None:
            return
        try:
            prepare(self.config.train_method, self.training, net, self.training_data())
        except SupernetError as error:
            raise ConfigError(str(error)) from error


class _Faults(list[str]):
    """Collects what is wrong, so that a user hears of everything at once."""

    def catch(self, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except ConfigError as error:
            self.extend(error.faults)
        except ValueError as error:  # the other packages' errors of bad input
            self.append(str(error))
        return None


def make_problem(config: RunConfig, base: Path | None = None, space: SearchSpace | None = None) -> Problem:
    """Check a configuration and make its parts.

    Args:
        config: The configuration.
        base: The folder in which a run was started, when it is resumed.
        space: The space of a run whose supernet is trained: its model, from which the space came, may be gone.

    Raises:
        ConfigError: With everything that is wrong, at once.
    """
    import_plugins(config.plugins)
    faults = _Faults()
    converted = is_converted(config)
    model_faults = check_model(config) if space is None else []
    if space is None and not converted:
        space = faults.catch(lambda: named_space(config))
    objectives = faults.catch(lambda: parse_objectives(config.objectives))
    constraints = faults.catch(lambda: parse_constraints(config.constraints))
    latency = faults.catch(lambda: parse_latency(config.latency))
    _check_names(config, faults)
    faults += model_faults
    # Data come last: reading them may take long, and the cheap faults are known by then.
    task = faults.catch(lambda: _task(config, base))
    training = faults.catch(lambda: training_settings(config, task)) if task else None
    source: Source | None = None
    if task is not None:
        config = _canonical(config, task, objectives or [], constraints or [])
        objectives = objectives and parse_objectives(config.objectives)
        constraints = constraints and parse_constraints(config.constraints)
        if space or (converted and not model_faults):
            source = faults.catch(lambda: make_source(config, task, space))
        space = source.space if source else None
    if task is not None and latency is not None:
        named = {s: latency[s] for s in latency}
        wanted = [o.metric for o in objectives or []] + [c.metric for c in constraints or []]
        scores = [*task.metrics, *task.comparisons]
        faults += [f for m in dict.fromkeys(wanted) if (f := fault_of(m, scores, named))]
        faults += [f for c in constraints or [] if (f := impossible(c))]
        faults += [f for m in dict.fromkeys(wanted) if (f := unmeasurable(m, latency, config))]
        known = list(dict.fromkeys([*task.metrics, *ANALYTIC, *wanted]))
        faults.catch(lambda: check_subnet(config, known))
    faults.catch(lambda: _strategy(config, space, objectives))
    if faults:
        raise ConfigError(faults)
    if source is None or task is None or objectives is None or constraints is None or latency is None:
        raise AssertionError("every missing part has left a fault")
    settings = {m: latency[m.partition("@")[2]] for o in (objectives, constraints) for m in _measured(o)}
    return Problem(config, source, task, tuple(objectives), tuple(constraints), settings, training)


def _canonical(config: RunConfig, task: Task, objectives: list[Objective], constraints: list[Constraint]) -> RunConfig:
    """Return the configuration with metrics by the names that the task gives them."""

    def named(metric: str) -> str:
        return canonical(metric, task.metrics)

    subnet = config.export.subnet
    if subnet.startswith("best-"):
        subnet = f"best-{named(subnet.removeprefix('best-'))}"
    update = {
        "objectives": [str(replace(o, metric=named(o.metric))) for o in objectives] or config.objectives,
        "constraints": [str(replace(c, metric=named(c.metric))) for c in constraints] or config.constraints,
        "export": config.export.model_copy(update={"subnet": subnet}),
    }
    return config.model_copy(update=update)


def _measured(parts: list[Any]) -> list[str]:
    return [p.metric for p in parts if is_measured(p.metric)]


def parse_latency(texts: list[str]) -> dict[str, LatencySetting]:
    """Return the latency settings by name; the unnamed one is ``""``.

    Raises:
        ConfigError: A setting is malformed, or a name is given twice.
    """
    from predictors import LatencySetting

    settings: dict[str, LatencySetting] = {}
    faults = _Faults()
    for text in texts:
        setting = faults.catch(lambda text=text: LatencySetting.parse(text))  # type: ignore[misc]
        if setting is None:
            continue
        name = setting.name or ""
        if name in settings:
            faults.append(f"latency setting {name or '(unnamed)'!r} is given twice; name them: --latency NAME=cpu:…")
        settings[name] = setting
    if faults:
        raise ConfigError(faults)
    return settings


def _task(config: RunConfig, base: Path | None) -> Task:
    from nassearch.tasks import make_task

    return make_task(
        config.task,
        seed=config.seed,
        base=base,
        model=config.model,
        trust_remote_code=config.trust_remote_code,
    )


def training_settings(config: RunConfig, task: Task) -> TrainSettings | None:
    """Return how a run trains its supernet: the task's settings, under those of the method, under the run's own.

    None where it trains none.

    Raises:
        ConfigError: Unknown settings or wrong values, all of them together.
    """
    if config.train_method == "none":
        return None
    task.check_batch_size(config.train.batch_size)
    from dataclasses import fields

    from supernets.training import TrainSettings, list_methods, method_settings

    allowed = {f.name for f in fields(TrainSettings)}
    given = dict(config.train.settings)
    unknown = sorted(set(given) - allowed)
    if unknown:
        told = f"allowed: {sorted(allowed)}"
        raise ConfigError([f"unknown setting 'train.settings.{n}'{did_you_mean(n, allowed)}; {told}" for n in unknown])
    defaults = {k: v for k, v in task.training_defaults.items() if k in allowed}
    if "steps" in given:
        defaults.pop("epochs", None)
    nested = given.pop("options", {})
    if not isinstance(nested, Mapping):
        raise ConfigError(f"setting 'train.settings.options': a mapping is needed, got {nested!r}; use train.options")
    if config.train_method in list_methods():  # an unknown one is a fault already
        defaults |= method_settings(config.train_method)
    options = defaults.pop("options", {}).get(config.train_method, {}) | dict(nested) | config.train.options
    settings = TrainSettings(**({"seed": config.seed} | defaults | given | {"options": options}))
    faults = settings.faults()
    if faults:
        raise ConfigError([f"train.settings: {f}" for f in faults])
    return settings


def _check_names(config: RunConfig, faults: _Faults) -> None:
    from nassearch.executors import EXECUTORS
    from nassearch.exports import list_exports
    from supernets.training import list_methods

    methods = ["none", *list_methods()]
    for what, given, allowed in (
        ("training method", config.train_method, methods),
        ("executor", config.executor.name, EXECUTORS),
        ("export format", config.export.format, ["none", *list_exports()]),
    ):
        if given not in allowed:
            faults.append(f"unknown {what} {given!r}{did_you_mean(given, allowed)}; available: {', '.join(allowed)}")
    for label, path in (("--checkpoint", config.checkpoint), ("--supernet", config.supernet)):
        if path is not None and not path.exists():
            faults.append(f"{label} {path} does not exist; give the path of an existing one")
    if reason := no_device(config):
        faults.append(reason)
    if config.reuse and not config.warm_start:
        faults.append(f"--reuse {config.reuse[0]} takes values from an earlier run; name it by --warm-start RUN")
    if config.checkpoint and config.supernet:
        faults.append("--checkpoint and --supernet both give weights; give one of them")


def _strategy(config: RunConfig, space: SearchSpace | None, objectives: list[Objective] | None) -> None:
    from nassearch.strategies import make_strategy, strategy_options

    if space and objectives:
        make_strategy(config.strategy, space, objectives=objectives, seed=config.seed, **config.strategy_options)
    else:
        strategy_options(config.strategy)  # at least its name can be checked
