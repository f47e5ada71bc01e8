"""`nassearch finetune`: training goes on with one subnet alone, as an ordinary model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.console import Console, make_console
from nassearch.errors import ConfigError
from nassearch.folders import locked
from nassearch.manifest import versions, write_json
from nassearch.problem import training_settings
from nassearch.runs import SUPERNET_FOLDER, Record, Run
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from nassearch.tasks import Task
    from supernets import Supernet
    from supernets.fixed import FixedSupernet
    from supernets.training import TrainSettings

WEIGHTS, RESULT, SETTINGS = "model.safetensors", "result.json", "finetune.json"
_SPLITS = ("search", "report")
_OF_SUPERNETS = ("freeze", "gradient_checkpointing", "lora_rank", "lora_alpha", "lora_targets", "lora_train")
_INSTATUNE: dict[str, Any] = {"method": "instatune", "settings": {}, "options": {}}


@dataclass(frozen=True)
class FinetuneSettings:
    """How a subnet is trained on, where that differs from how the run trained its supernet.

    Attributes:
        epochs: Passes over the training data. Default: the run's, a tenth of it where it trained anew.
        lr: Peak learning rate. Default: the run's, a tenth of it where it trained anew.
        alpha: Weight of the labels; the rest is that of the largest subnet of the run, the teacher. 1: no teacher.
            Default: what the supernet's family says (`Supernet.recovery`), else 0.5.
        temperature: Of the distillation. Default: what the family says, else 2.
        distill: Whether there is a teacher.
        batch_size: Inputs of a step. Default: the run's.
        only: What is trained, by names of `Supernet.parameter_groups` or patterns of parameter names. Default: all.
        lora_rank: Rank of low-rank adapters, which alone are trained and added to the weights at the end; 0: none.
        lora_alpha: Factor on the adapters, divided by the rank. Default: the rank.
        lora_targets: Patterns of the names of layers that get adapters.
    """

    epochs: int | None = None
    lr: float | None = None
    alpha: float | None = None
    temperature: float | None = None
    distill: bool = True
    batch_size: int | None = None
    only: tuple[str, ...] = ()
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] = ("*",)

    def of(self, net: Supernet) -> FinetuneSettings:
        """Return the settings with what the family of a supernet says, and with patterns for names of groups.

        Raises:
            ConfigError: ``only`` names no group of it and is no pattern.
        """
        groups, patterns = net.parameter_groups(), []
        for name in self.only:
            if name not in groups and not any(c in name for c in ".*?["):
                known = ", ".join(groups) or "none of its own"
                raise ConfigError(
                    f"--only {name}: the supernet has no such group{did_you_mean(name, groups)}; groups: {known}; or "
                    "give a pattern of parameter names such as '*.bias'"
                )
            patterns += groups.get(name, [name])
        default = {"alpha": 0.5, "temperature": 2.0} | dict(net.recovery)
        missing: dict[str, Any] = {n: v for n, v in default.items() if getattr(self, n) is None}
        return replace(self, **missing, only=tuple(patterns))

    def training(self, run: Run, task: Task) -> TrainSettings:
        """Return the settings of the training: the run's own; those of `instatune` where it took weights as they were.

        What only a supernet can have (`left_out`) is left out.

        Raises:
            ConfigError: Values that make no sense, all of them together.
        """
        from supernets.training import TrainSettings

        base = _run_settings(run, task)
        values: dict[str, Any] = {"evaluate_every": 0} | {n: getattr(TrainSettings(epochs=1), n) for n in _OF_SUPERNETS}
        if _trained_anew(run, base):
            values["lr"] = base.lr / 10
            values |= {n: max(1, v // 10) for n in ("epochs", "steps") if (v := getattr(base, n)) is not None}
        if self.epochs is not None:
            values |= {"epochs": self.epochs, "steps": None}
        if self.lr is not None:
            values["lr"] = self.lr
        if self.only:
            values["freeze"] = ("*", *(f"!{pattern}" for pattern in self.only))
        values |= {n: getattr(self, n) for n in ("lora_rank", "lora_alpha", "lora_targets")}
        options: dict[str, Any] = {"random_subnets": 0, "alpha": 1.0, "gamma": 0.0}
        alpha = 0.5 if self.alpha is None else self.alpha
        if self.distill and alpha != 1:
            teacher = str((run.folder / SUPERNET_FOLDER).resolve())
            temperature = 2.0 if self.temperature is None else self.temperature
            options |= {"alpha": alpha, "gamma": 1.0, "temperature": temperature, "teacher": teacher}
        settings = replace(base, **values, options=options)
        faults = settings.faults()
        if self.batch_size is not None and self.batch_size < 1:
            faults.append(f"batch_size must be at least 1, got {self.batch_size!r}")
        if self.only and self.lora_rank:
            faults.append(
                "only and lora_rank both say what is trained; give one of them, or name layers by lora_targets"
            )
        if faults:
            raise ConfigError([f"finetune: {fault}" for fault in faults])
        return settings

    def inputs_of_a_step(self, run: Run, task: Task) -> int:
        """Return the batch size.

        Raises:
            ConfigError: One is given, and the task's batches are of a number of tokens.
        """
        task.check_batch_size(self.batch_size)
        return self.batch_size or run.config.train.batch_size or int(task.training_defaults.get("batch_size", 128))


def left_out(run: Run, task: Task) -> list[str]:
    """Return the names of the run's training settings that a single network cannot have."""
    from supernets.training import TrainSettings

    base, plain = _run_settings(run, task), TrainSettings(epochs=1)
    return [n for n in _OF_SUPERNETS if getattr(base, n) != getattr(plain, n)]


def _run_settings(run: Run, task: Task) -> TrainSettings:
    """Return how the run trained its supernet, or how `instatune` would on its task."""
    config = run.config
    if config.train_method == "none":
        config = config.model_copy(update={"train": config.train.model_copy(update=_INSTATUNE)})
    settings = training_settings(config, task)
    if settings is None:
        raise AssertionError("a method was given")
    return settings


def _trained_anew(run: Run, settings: TrainSettings) -> bool:
    """Return whether the run trained by SGD from random weights: its peak is too high for what is trained already."""
    c = run.config
    return settings.optimizer == "sgd" and c.train_method != "none" and not (c.model or c.supernet or c.checkpoint)


@dataclass(frozen=True)
class FinetuneResult:
    """A subnet before and after.

    Attributes:
        folder: Where weights and figures lie.
        record: The evaluation it came from.
        before: Split -> metric -> value, as extracted.
        after: The same of the trained network.
    """

    folder: Path
    record: Record
    before: Mapping[str, Mapping[str, float]]
    after: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Return what a script needs to know."""
        return {"folder": str(self.folder), "id": self.record.id, "before": self.before, "after": self.after}


def finetune(
    run: Run,
    subnet: str = "knee",
    settings: FinetuneSettings | None = None,
    *,
    out: Path | None = None,
    format: str | None = None,
    console: Console | None = None,
) -> FinetuneResult:
    """Train one subnet of a run on, and write it as an ordinary model with its figures before and after.

    Stopped at any moment, the same call goes on where it was and ends with the same weights. What is finished is not
    trained again.

    Args:
        run: The run.
        subnet: See `Run.select`.
        settings: How to train.
        out: Folder. Default: ``finetuned/ID`` in the run.
        format: Export format, written into a folder of that name beside the weights. Default: none.
        console: Where progress is printed.

    Raises:
        ConfigError: Bad settings, or the folder holds something else.
    """
    from supernets import SupernetError
    from supernets.training import RichProgress, prepare, train

    console = console or make_console()
    if format is not None:
        from nassearch.exports import make_export

        make_export(format)
    record, task, net = run.select(subnet), run.task(), run.supernet().eval()
    settings = (settings or FinetuneSettings()).of(net)
    training = settings.training(run, task)
    folder = out or run.folder / "finetuned" / str(record.id)
    size = settings.inputs_of_a_step(run, task)
    asked = _asked(record, training, task.describe_training_batches(size))
    _check_folder(folder, asked)
    single = _extracted(run, task, net, record)
    training = replace(training, freeze=_present(training.freeze, net, single))
    data = task.training_data(size, seed=run.config.seed)
    try:
        prepare("instatune", training, single, data)
    except SupernetError as error:
        raise ConfigError(str(error)) from error
    if names := left_out(run, task):
        console.print(f"the run's {', '.join(names)} left out: they were the supernet's")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not (folder / SETTINGS).exists():
            write_json(folder / SETTINGS, asked)
        if (folder / RESULT).exists():
            done = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            _load_weights(single.module, folder / WEIGHTS)
            before, after = done["before"], done["after"]
        else:
            before = _scores(run, task, single)
            checkpoint = folder / "training"
            with RichProgress(console=console) as progress:
                train(
                    single,
                    data,
                    lambda outputs, targets: _loss(task, outputs, targets),
                    method="instatune",  # no random subnets, the largest of the run as teacher: plain distillation
                    settings=training,
                    score=None,
                    checkpoint_dir=checkpoint,
                    resume=checkpoint.exists(),
                    progress=progress,
                    data_fingerprint=task.fingerprint,
                )
            single.cpu()
            after = _scores(run, task, single)
            _save_weights(single.module, folder / WEIGHTS)
            result = {**asked, "before": before, "after": after, "versions": versions(), "run": str(run.folder)}
            write_json(folder / RESULT, result)
            shutil.rmtree(checkpoint, ignore_errors=True)
        if format is not None:
            _export(run, record, net, single, folder / format, format, after)
    _print(console, record, before, after)
    return FinetuneResult(folder, record, before, after)


def _asked(record: Record, training: TrainSettings, batches: Mapping[str, int]) -> dict[str, Any]:
    """Return, as JSON data, what tells a fine-tuning of a run from its others."""
    options = dict(training.options)
    if "teacher" in options:
        options["teacher"] = SUPERNET_FOLDER  # within the run, which may be moved
    settings = training.to_json() | {"options": options}
    asked = {"id": record.id, "architecture": record.arch, **batches, "training": settings}
    kept: dict[str, Any] = json.loads(json.dumps(asked))
    return kept


def _check_folder(folder: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder that holds another fine-tuning, or something else.

    Raises:
        ConfigError: With what to do.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / SETTINGS).is_file()):
        raise ConfigError(f"--out {folder} holds something else; choose another folder")
    if (folder / SETTINGS).is_file() and json.loads((folder / SETTINGS).read_text(encoding="utf-8")) != asked:
        raise ConfigError(
            f"{folder} holds a fine-tuning with other settings ({SETTINGS}); give the same ones to go on with it, or "
            "another --out"
        )


def _present(freeze: Sequence[str], net: Supernet, single: FixedSupernet) -> tuple[str, ...]:
    """Return patterns without those of a group that name parts which this subnet does not have, such as constants."""
    names = [name for name, _ in single.named_parameters()]
    of_groups = {f"!{pattern}" for patterns in net.parameter_groups().values() for pattern in patterns}
    return tuple(p for p in freeze if p not in of_groups or any(fnmatchcase(name, p[1:]) for name in names))


def _extracted(run: Run, task: Task, net: Supernet, record: Record) -> FixedSupernet:
    """Return the subnet as an ordinary network, with recalibrated statistics as in the search."""
    from supernets.fixed import FixedSupernet

    config = run.config.evaluation
    with net.activated(record.arch):
        calibration = task.calibration_inputs(config.batch_size, config.calibration_size)
        net.recalibrate(net.fit_inputs(inputs) for inputs in calibration)
        return FixedSupernet(net, record.arch, keep_statistics=True)


def _loss(task: Task, outputs: Any, targets: Any) -> Any:
    from supernets.training import logits_of

    return task.loss(logits_of(outputs), targets)


def _scores(run: Run, task: Task, net: FixedSupernet) -> dict[str, dict[str, float]]:
    from nassearch.evaluation import EvaluationSettings, SupernetEvaluator

    e = run.config.evaluation
    evaluator = SupernetEvaluator(net, task, EvaluationSettings((), {}, e.batch_size, e.calibration_size, e.device))
    scores = {split: evaluator.score(net.active, split) for split in _SPLITS}
    net.cpu()
    return scores


def _save_weights(module: nn.Module, path: Path) -> None:
    from safetensors.torch import save_model

    partial = path.with_name(f".{path.name}")
    save_model(module, str(partial))
    partial.replace(path)


def _load_weights(module: nn.Module, path: Path) -> None:
    from safetensors.torch import load_model

    load_model(module, str(path))


def _export(
    run: Run, record: Record, net: Supernet, single: FixedSupernet, folder: Path, format: str, after: Mapping[str, Any]
) -> None:
    """Export the trained network as any subnet is; its card has the new figures."""
    from nassearch.exports import export_subject, subject_of

    tuned = replace(record, values={**record.values, **after["search"]}, report=after["report"], remeasured={})
    if folder.exists():
        shutil.rmtree(folder)
    export_subject(run, tuned, subject_of(run, tuned, net, single.module), net, format, folder)


def _print(console: Console, record: Record, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table("metric", "split", "before", "after", title=f"Subnet #{record.id}, fine-tuned")
    for split in _SPLITS:
        for metric, value in after[split].items():
            table.add_row(metric, split, f"{before[split][metric]:.4g}", f"{value:.4g}")
    console.print(table)
