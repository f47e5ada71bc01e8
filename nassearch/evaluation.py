"""Evaluating one architecture: quality by inherited weights, cost on the extracted static subnet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from nassearch.comparing import References
from nassearch.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from nassearch.tasks import Task
    from predictors import LatencySetting
    from supernets import Supernet
    from supernets.base import Inputs


@dataclass(frozen=True)
class Job:
    """One architecture to evaluate.

    Attributes:
        id: Id of its proposal.
        arch: The readable form.
        split: The split that its quality is read from; None for costs alone.
        costs: The costs to measure; None for all there are.
    """

    id: int
    arch: Mapping[str, Any]
    split: str | None = "search"
    costs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Part:
    """One half of an evaluation: values by metric, their spread, how they came about, on which device."""

    values: dict[str, float] = field(default_factory=dict)
    std: dict[str, float] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)

    def joined(self, other: Part) -> Part:
        """Return both halves together."""
        return Part(
            {**self.values, **other.values},
            {**self.std, **other.std},
            {**self.measured, **other.measured},
            {**self.device, **other.device},
        )


class Evaluator(Protocol):
    """Evaluates architectures, one at a time, leaving no trace between them."""

    needs_cost: bool
    """Whether `cost` measures anything; if not it is never called."""

    def quality(self, arch: Mapping[str, Any], split: str = "search") -> Part:
        """Return quality on a split, and analytic metrics; the same for the same architecture, wherever it runs."""

    def cost(self, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        """Return metrics measured on the device, all or some; nothing else may run on its cores meanwhile."""


def measured(evaluator: Evaluator, arch: Mapping[str, Any], metrics: Sequence[str] | None) -> Part:
    """Return costs, all or some; an evaluator that always measures all need not know the difference."""
    return evaluator.cost(arch) if metrics is None else evaluator.cost(arch, metrics)


class EvaluatorSource(ABC):
    """How to make an `Evaluator` in another process: small settings, and arrays that are sent once."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the large data (weights, images), to be put in an object store."""

    def without_arrays(self) -> EvaluatorSource:
        """Return the source without its large data, to be sent to each worker beside references to it."""
        return self

    @abstractmethod
    def build(self, arrays: Mapping[str, NDArray[Any]]) -> Evaluator:
        """Make the evaluator from this source's settings and the arrays."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How architectures are evaluated.

    Attributes:
        metrics: The metrics of the goal; of these the device measures what needs measuring. Metrics of the
            task and analytic ones are always all evaluated: they cost nothing more. Comparisons of the task are
            evaluated where one of them is named.
        latency: Settings of the device measurements, by metric name (``latency_ms``, ``latency_ms@pi``).
        batch_size: Images (sequences) a forward pass of the quality evaluation.
        calibration_size: Inputs that recalibrate the normalisation statistics of each subnet.
        device: Where quality is evaluated: ``"cpu"``, ``"cuda"``, …, or ``"auto"`` for CUDA where there is some.
            Costs are measured where their setting says.
    """

    metrics: tuple[str, ...]
    latency: Mapping[str, LatencySetting]
    batch_size: int = 256
    calibration_size: int = 256
    device: str = "auto"


def measured_inputs(net: Supernet, arch: Mapping[str, Any], setting: LatencySetting) -> Inputs:
    """Return the inputs on which a subnet is measured: with the setting's batch, and its resolution or sequence.

    Raises:
        ConfigError: The setting names a size that the supernet's inputs do not have.
    """
    named = {"resolution": setting.resolution, "sequence": setting.sequence}
    sizes = {name: size for name, size in named.items() if size is not None}
    known = signature(net.example_inputs).parameters
    if unknown := [name for name in sizes if name not in known]:
        raise ConfigError(
            f"latency setting {str(setting)!r}: inputs of a {type(net).__name__} have no {' or '.join(unknown)} that "
            "could be chosen; leave it out"
        )
    return net.example_inputs(arch, batch_size=setting.batch, **sizes)


def timing_options(setting: LatencySetting) -> dict[str, str]:
    """Return what a latency setting says of how an inference is timed, for `Supernet.timed_as`; mostly nothing."""
    named = {"phase": setting.phase, "experts": setting.experts}
    options = {name: value for name, value in named.items() if value is not None}
    if options:
        options["backend"] = setting.backend
        if setting.sequence is not None:
            options["sequence"] = str(setting.sequence)
    return options


def inputs_fault(net: Supernet, task: Task) -> str | None:
    """Return why a supernet cannot run on a task's inputs, or has other classes; None if all is well.

    Classes are compared where the supernet is not built with as many as are needed.
    """
    import torch

    from supernets import SupernetError, call
    from supernets.training import logits_of

    expected, given = net.example_inputs(), net.fit_inputs(task.calibration_inputs(1, 1)[0])
    named = isinstance(given, Mapping)
    if named != isinstance(expected, Mapping) or (named and not set(given) & set(expected)):
        return f"it takes {_told(expected)}, the task gives {_told(given)}"
    if not named and "num_classes" in net.config():
        return None
    if len(task.input_shape) == 1 and "sequence" in signature(net.example_inputs).parameters:
        try:
            net.example_inputs(sequence=task.input_shape[0])  # type: ignore[call-arg]
        except SupernetError as error:
            return f"the task's inputs are too long: {error}; give a smaller max_length or block"
    modes = [(m, m.training) for m in net.modules()]
    try:
        with torch.no_grad():
            classes = logits_of(call(net.eval(), net.fit_inputs(_padded(task)))).shape[-1]
    except SupernetError as error:
        return str(error)
    except IndexError as error:
        return f"it does not run on the task's inputs: {error}; are its tokens those of the task's tokenizer?"
    except (ValueError, RuntimeError, AssertionError, TypeError) as error:  # of the model's library
        return f"it does not run on the task's inputs, {_told(given)}: {error}"
    finally:
        for module, training in modes:
            module.training = training
    if classes < (tokens := task.model_options.get("vocab_size", 0)):
        return f"its vocabulary has {classes} tokens, the task's data {tokens}; give the model's own tokenizer"
    wanted = task.model_options.get("num_classes", classes)
    return None if classes == wanted else f"it has {classes} classes, the task {wanted}"


def _padded(task: Task) -> Inputs:
    """Return two items of a task, of different length where two neighbours are: models may refuse to pad."""
    batches = task.calibration_inputs(2, 64)
    filled = (b for b in batches if isinstance(b, Mapping) and "attention_mask" in b and not b["attention_mask"].all())
    return next(filled, batches[0])


def _told(inputs: Inputs) -> str:
    if isinstance(inputs, Mapping):
        return f"inputs by name ({', '.join(inputs)})"
    return f"{len(inputs)} positional input{'s' if len(inputs) != 1 else ''}"


class SupernetEvaluator:
    """Evaluates architectures of a supernet on a task.

    Args:
        net: The trained supernet, in eval mode from here on.
        task: The task, with its splits.
        settings: What to evaluate and how.
    """

    def __init__(self, net: Supernet, task: Task, settings: EvaluationSettings) -> None:
        import torch

        from nassearch.metrics import is_measured

        wanted = settings.device
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)
        self.net, self.task, self.settings = net.to(self.device).eval(), task, settings
        self._measured = [m for m in settings.metrics if is_measured(m)]
        self._calibration = task.calibration_inputs(settings.batch_size, settings.calibration_size)
        self._compares = not set(task.comparisons).isdisjoint(settings.metrics)
        self._references = References(task)
        shown = {usage.partition(".")[0] for usage in net.behaviours()}
        self._observed = [m for m in settings.metrics if m.partition(".")[0] in shown and m not in task.metrics]
        self.needs_cost = bool(self._measured)

    def quality(self, arch: Mapping[str, Any], split: str = "search") -> Part:
        """Return the analytic metrics and those of the task on a split."""
        costs = {m: float(v[0]) for m, v in self.net.analytic(self.net.space.encode([arch])).items()}
        scores = self.score(arch, split)
        measured = dict.fromkeys(costs, "analytic") | dict.fromkeys(scores, f"{split}-split")
        return Part(costs | scores, measured=measured)

    def score(self, arch: Mapping[str, Any], split: str) -> dict[str, float]:
        """Return all metrics of the task, and those that the supernet shows, of a subnet on any split."""
        return self._compared(arch, split) | self._behaviour(arch, split)

    def _behaviour(self, arch: Mapping[str, Any], split: str) -> dict[str, float]:
        """Return the metrics of the goal that the supernet shows; they cost one more pass over the split."""
        from supernets import inputs_to

        if not self._observed:
            return {}
        domains = self.task.inputs_by_domain(split, self.settings.batch_size)
        with self._recalibrated(arch) as net:
            groups = {n: (net.fit_inputs(inputs_to(x, self.device)) for x in batches) for n, batches in domains.items()}
            return net.observe(self._observed, groups)

    def _compared(self, arch: Mapping[str, Any], split: str) -> dict[str, float]:
        if not self._compares:
            return self._scored(arch, split)
        largest = self.net.space.decode(self.net.space.largest[None])[0]
        if not self._references.knows(split):
            self._references.record(split, lambda see: self._scored(largest, split, see))

        def reference(inputs: Inputs) -> Tensor:
            with self._recalibrated(largest) as net:
                return self._output(net, inputs)

        comparison = self._references.comparison(split, reference)
        return self._scored(arch, split, comparison.see) | comparison.means()

    @contextmanager
    def _recalibrated(self, arch: Mapping[str, Any]) -> Iterator[Supernet]:
        from supernets import inputs_to

        with self.net.activated(arch) as net:
            net.recalibrate(net.fit_inputs(inputs_to(inputs, self.device)) for inputs in self._calibration)
            yield net

    @staticmethod
    def _output(net: Supernet, inputs: Inputs) -> Tensor:
        from supernets import call
        from supernets.training import logits_of

        return logits_of(call(net, inputs)).cpu()

    def _scored(
        self, arch: Mapping[str, Any], split: str, see: Callable[[Inputs, Tensor], None] | None = None
    ) -> dict[str, float]:
        """Return all metrics of the task but its comparisons; ``see`` has the inputs and outputs of each batch."""
        from supernets import inputs_to

        with self._recalibrated(arch) as net:

            def adapt(inputs: Inputs) -> Inputs:
                return net.fit_inputs(inputs_to(inputs, self.device))

            def forward(inputs: Inputs) -> Tensor:
                output = self._output(net, inputs)
                if see is not None:
                    see(inputs, output)
                return output

            size = self.settings.batch_size
            scores = self.task.evaluate(forward, split, batch_size=size, adapt=adapt)
            return scores | self.task.evaluate_sequences(net.generate, split, batch_size=size, adapt=adapt)

    def cost(self, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        """Return the metrics measured on the extracted subnet; a disturbed latency is measured again, twice at most."""
        from nassearch.metrics import base_name
        from predictors import describe_device, measure_peak_memory
        from predictors.measurement import measure_undisturbed

        part = Part()
        modules: dict[str, Any] = {}  # settings mostly share one
        for metric in self._measured if metrics is None else metrics:
            setting = self.settings.latency[metric]
            options = timing_options(setting)
            if str(options) not in modules:
                modules = {str(options): self.net.timed_as(arch, options).eval().cpu()}
            module = modules[str(options)]
            inputs = measured_inputs(self.net, arch, setting)
            if base_name(metric) == "latency_ms":
                latency, measurements = measure_undisturbed(module, inputs, setting)
                part.values[metric], part.std[metric] = latency.median_ms, latency.iqr_ms
                part.device[metric] = latency.to_json() | {"measurements": measurements}
            else:
                part.values[metric] = measure_peak_memory(module, inputs, setting)
                part.device[metric] = {"setting": str(setting), "device": describe_device(setting).to_json()}
            part.measured[metric] = "measured"
        return part


@dataclass(frozen=True)
class SupernetEvaluatorSource(EvaluatorSource):
    """Rebuilds a `SupernetEvaluator` from the payloads of its supernet and task."""

    net_config: Mapping[str, Any]
    net_arrays: Mapping[str, NDArray[np.generic]] = field(repr=False)
    task_config: Mapping[str, Any]
    task_arrays: Mapping[str, NDArray[np.generic]] = field(repr=False)
    settings: EvaluationSettings
    plugins: tuple[str, ...] = ()

    @classmethod
    def of(cls, evaluator: SupernetEvaluator, plugins: Sequence[str] = ()) -> SupernetEvaluatorSource:
        """Return the source of an evaluator; ``plugins`` are imported first wherever it is rebuilt."""
        from supernets import to_payload

        payloads = (*to_payload(evaluator.net), *evaluator.task.to_payload())
        return cls(*payloads, evaluator.settings, tuple(plugins))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the weights under ``net/`` and the data under ``task/``."""
        weights = {f"net/{k}": v for k, v in self.net_arrays.items()}
        return weights | {f"task/{k}": v for k, v in self.task_arrays.items()}

    def without_arrays(self) -> SupernetEvaluatorSource:
        """Return the small part alone, to be sent to each worker."""
        return replace(self, net_arrays={}, task_arrays={})

    def build(self, arrays: Mapping[str, NDArray[Any]]) -> SupernetEvaluator:
        """Rebuild the evaluator."""
        from nassearch.config import import_plugins
        from nassearch.tasks import from_payload as task_from_payload
        from supernets import from_payload

        import_plugins(self.plugins)

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        net = from_payload(dict(self.net_config), part("net/"))
        return SupernetEvaluator(net, task_from_payload(dict(self.task_config), part("task/")), self.settings)
