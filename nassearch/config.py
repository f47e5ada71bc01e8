"""The configuration of a run: a YAML file, flags and ``--set`` overrides, checked before any work."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nassearch.errors import ConfigError
from nassearch.metrics import ANALYTIC, MEASURED, base_name
from search_spaces.errors import did_you_mean

DEFAULT_LATENCY = "cpu:eager,batch=1,threads=1"
MIXTURE_OPTIONS = ("mixture", "experts", "mixture_options")
_INHERITED = (
    "space",
    "model",
    "trust_remote_code",
    "offload",
    "task",
    "seed",
    "model_options",
    "evaluation",
    "plugins",
)  # from a run of a warm start


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as the number it is: YAML 1.1 would want ``1.0e-3``."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _parse_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class TrainConfig(_Section):
    """How the supernet is trained.

    Attributes:
        method: ``sandwich``, ``progressive-shrinking``, ``single-path``, ``instatune`` or ``none``. Default:
            ``instatune`` for the space of a pre-trained model, else ``sandwich``; ``none`` when weights are given, or
            where the subnets of a model need no training.
        batch_size: Images a step. Default: the task's.
        settings: Fields of `supernets.training.TrainSettings` (``epochs``, ``lr``, …) over the task's defaults.
        options: Options of the method (``n_random``, …).
        importance_order: Whether the units of the supernet are ordered by importance on the calibration split before
            the first step. Default: as the method wants it.
        rehearsal: Steps for which a copy of the supernet is fine-tuned before, so that its units are scored with a head
            that knows the task; 0: none. Default: a sixth of the training, at most 200, where weights of a
            pre-trained model are new, as those of a head for the task's classes.
        order_layers: Whether depth, too, keeps what matters most, not the first layers, of models whose layers can be
            chosen. Default: yes.
    """

    method: str | None = None
    batch_size: int | None = Field(default=None, gt=0)
    settings: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    importance_order: bool | None = None
    rehearsal: int | None = Field(default=None, ge=0)
    order_layers: bool | None = None


class ExecutorConfig(_Section):
    """Where evaluations run; see `nassearch.executors.ExecutorSettings` for the units."""

    name: str = "local"
    num_workers: int = Field(default=1, gt=0)
    threads: int = Field(default=1, gt=0, le=1024)
    timeout_s: float | None = Field(default=None, gt=0)
    retries: int = Field(default=2, ge=0)
    address: str | None = None
    latency_resource: str = "latency_slot"
    asynchronous: bool = False
    max_consecutive_failures: int = Field(default=10, gt=0)


class EvaluationConfig(_Section):
    """How quality is evaluated; see `nassearch.evaluation.EvaluationSettings`."""

    batch_size: int = Field(default=256, gt=0)
    calibration_size: int = Field(default=256, gt=0)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")


class ExportConfig(_Section):
    """What is exported at the end of the run: which subnet, in which form (``none`` for nothing)."""

    subnet: str = "knee"
    format: str = "torch"


class RunConfig(_Section):
    """Everything that decides a run. The same configuration gives the same search.

    Attributes:
        space: Name of the search space and its supernet; ``auto``: that of a pre-trained ``model``.
        model: The pre-trained model that becomes the supernet: a folder that transformers or timm saved, ``timm:NAME``,
            ``hf-hub:ID`` (timm) or a name on the hub (transformers).
        trust_remote_code: Whether code that comes with the model may run.
        offload: Folder for a model that is too large for memory: its layers stay on disk and are read as they are
            needed; what must be written anew for that lies there.
        task: Task and data, e.g. ``digits`` or ``imagefolder:DIR``.
        objectives: ``metric:max`` or ``metric:min``, one to four.
        constraints: e.g. ``latency_ms <= 20`` or ``params_m <= 60% of largest``.
        num_evals: Number of architectures to evaluate.
        seed: Seed of everything random.
        out: The run folder. Default: ``runs/SPACE-TASK-sSEED``.
        strategy: Search strategy.
        strategy_options: Its options.
        batch_size: Proposals a batch; part of the search, whatever the number of workers.
        model_options: Options of the supernet over those of the task; of a converted model those of the conversion.
        checkpoint: Published weights for the supernet.
        supernet: Folder of a trained supernet (``supernet/`` of another run).
        warm_start: Folders of earlier runs of the space, which give the search a head start.
        reuse: Metrics whose values in those runs are taken over instead of evaluated; ``accuracy`` for all of the task.
        latency: Measurement settings, ``[NAME=]device:backend,batch=…``.
        plugins: Python modules to import first; they may register spaces, supernets, tasks, strategies, ….
    """

    space: str
    model: str | None = None
    trust_remote_code: bool = False
    offload: Path | None = None
    task: str
    objectives: list[str] = Field(min_length=1, max_length=4)
    constraints: list[str] = Field(default_factory=list)
    num_evals: int = Field(default=250, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
    out: Path | None = None
    strategy: str = "linas"
    strategy_options: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(default=10, gt=0)
    model_options: dict[str, Any] = Field(default_factory=dict)
    checkpoint: Path | None = None
    supernet: Path | None = None
    warm_start: list[Path] = Field(default_factory=list)
    reuse: list[str] = Field(default_factory=list)
    train: TrainConfig = Field(default_factory=TrainConfig)
    latency: list[str] = Field(default_factory=lambda: [DEFAULT_LATENCY])
    executor: ExecutorConfig = Field(default_factory=ExecutorConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)
    plugins: list[str] = Field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The run folder."""
        if self.out is not None:
            return self.out
        task = self.task.partition(":")[0]
        return Path("runs") / f"{self.space}-{task}-s{self.seed}"

    @property
    def train_method(self) -> str:
        """The training method after defaults."""
        if self.train.method is not None:
            return self.train.method
        from nassearch.sources import is_converted
        from supernets import wants_training

        if self.checkpoint or self.supernet or not wants_training(self.space):
            return "none"
        return "instatune" if is_converted(self) else "sandwich"

    def to_yaml(self) -> str:
        """Return the configuration as a YAML file that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


Source = Literal["file", "flags"]


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConfigError: It is missing, no YAML, or no mapping; the message gives file and line.
    """
    if not path.is_file():
        raise ConfigError(f"configuration file {path} does not exist")
    try:
        data = _parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a mapping of settings is needed (space: …, task: …), got {type(data).__name__}")
    return data


def parse_set(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn ``["train.settings.epochs=5"]`` into nested settings; values are YAML scalars or lists.

    Raises:
        ConfigError: One or more are not of the form ``a.b=value``.
    """
    result: dict[str, Any] = {}
    faults = []
    for text in assignments:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            faults.append(f"--set {text!r} is not of the form a.b=value")
            continue
        try:
            nested = _parse_yaml(value)
        except yaml.YAMLError:
            faults.append(f"--set {text!r}: the value is not valid YAML")
            continue
        for part in reversed(parts):
            nested = {part: nested}
        result = _merge(result, nested)
    if faults:
        raise ConfigError(faults)
    return result


def _message(error: Mapping[str, Any]) -> str:
    """Turn one of pydantic's errors into what was given, what is allowed, what to do."""
    names = [str(part) for part in error["loc"]]
    where, model = ".".join(names), RunConfig
    for name in names[:-1]:
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation  # type: ignore[assignment]
    if error["type"] == "extra_forbidden":
        allowed = list(model.model_fields)
        return f"unknown setting {where!r}{did_you_mean(names[-1], allowed)}; allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        flag = {"objectives": "--objective METRIC:max|min", "space": "--space NAME", "task": "--task NAME"}.get(where)
        return f"setting {where!r} is missing{f'; give {flag}' if flag else ''}"
    if where == "objectives" and error["type"] == "too_short":
        return "no objective is given; give one to four --objective METRIC:max|min"
    return f"setting {where!r}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def make_config(
    settings: Mapping[str, Any] | None = None, *, file: Path | None = None, sets: Sequence[str] = ()
) -> RunConfig:
    """Make a configuration from a file, settings over it, and ``a.b=value`` overrides over both.

    Raises:
        ConfigError: With all faults of names, types and ranges at once.
    """
    data = read_yaml(file) if file else {}
    data = _merge(data, {k: v for k, v in (settings or {}).items() if v is not None})
    data = _inherited(_merge(data, parse_set(sets)))
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise ConfigError(
            [_message(e) for e in errors] + _further_faults(data, {e["loc"][0] for e in errors})
        ) from None
    return config


def _further_options(earlier: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a supernet over those of an earlier run; another mixture leaves nothing of the earlier one."""
    kept = dict(earlier) if isinstance(earlier, Mapping) else {}
    if options.get("mixture", kept.get("mixture")) != kept.get("mixture"):
        kept = {name: value for name, value in kept.items() if name not in MIXTURE_OPTIONS}
    return _merge(kept, options)


def _inherited(data: dict[str, Any]) -> dict[str, Any]:
    """Return settings with those of the first run that they are warm-started from, where they say nothing.

    A search for another device is of the same space and data, and quality is only reused with the same weights.

    Raises:
        ConfigError: The folder is no run.
    """
    runs, reuse = data.get("warm_start"), data.get("reuse")
    if not isinstance(runs, list) or not runs or not isinstance(runs[0], str | Path):
        return data
    inherited = dict(data)
    missing = [name for name in _INHERITED if name not in data]
    options, file = data.get("model_options"), Path(runs[0]) / "config.yaml"
    if missing and not file.is_file():
        raise ConfigError(f"--warm-start {runs[0]} has no {file.name}, so it is no run folder of nassearch")
    if missing:  # a run's own configuration lacks nothing: the earlier one may have changed since, or be gone
        earlier = read_yaml(file)
        inherited |= {name: earlier[name] for name in missing if name in earlier}
        # Options belong to one space and model: those of another would be unknown to it.
        same = all(inherited.get(name) == earlier.get(name) for name in ("space", "model"))
        if isinstance(options, Mapping) and same:
            inherited["model_options"] = _further_options(earlier.get("model_options"), options)
    quality = [m for m in reuse if base_name(str(m)) not in {*MEASURED, *ANALYTIC}] if isinstance(reuse, list) else []
    weights = Path(runs[0]).absolute() / "supernet"
    if quality and not data.get("supernet") and not data.get("checkpoint") and weights.is_dir():
        inherited["supernet"] = weights
    return inherited


def _further_faults(data: Mapping[str, Any], bad: set[Any]) -> list[str]:
    """Return what else is wrong with a configuration whose ``bad`` settings are left at their defaults."""
    from nassearch.problem import make_problem

    rest = {k: v for k, v in data.items() if k in RunConfig.model_fields and k not in bad}
    if not {"space", "task", "objectives"} <= set(rest):
        return []
    try:
        make_problem(RunConfig.model_validate(rest))
    except ConfigError as error:
        return error.faults
    return []


def import_plugins(plugins: Sequence[str]) -> None:
    """Import the modules with which users add spaces, supernets, tasks or strategies.

    They may be in the current folder, where the program's own script does not look by itself.

    Raises:
        ConfigError: A module cannot be imported.
    """
    if plugins and not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))  # last: it hides nothing
    for name in plugins:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may fail in any way: say which and why
            raise ConfigError(
                f"plugin {name!r} cannot be imported ({type(error).__name__}: {error}); give the dotted name of a "
                "module that is installed, in the current folder or on PYTHONPATH"
            ) from error
