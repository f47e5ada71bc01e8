"""`nassearch finetune`: training goes on with one subnet alone, as an ordinary model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.console import Console, make_console
from nassearch.errors import ConfigError
from nassearch.folders import locked
from nassearch.manifest import versions, write_json
from nassearch.runs import SUPERNET_FOLDER, Record, Run

if TYPE_CHECKING:
    from torch import nn

    from nassearch.tasks import Task
    from supernets import Supernet
    from supernets.single import SingleSupernet
    from supernets.training import TrainSettings

WEIGHTS, RESULT, SETTINGS = "model.safetensors", "result.json", "finetune.json"
_SPLITS = ("search", "report")


@dataclass(frozen=True)
class FinetuneSettings:
    """How a subnet is trained on.

    Attributes:
        epochs: Passes over the training data. Default: the task's, a tenth of it where it is meant for training anew.
        lr: Peak learning rate. Default: the task's; of SGD, which trains anew, a tenth of it.
        alpha: Weight of the labels; the rest is that of the largest subnet of the run, the teacher.
        temperature: Of the distillation.
        distill: Whether there is a teacher.
        batch_size: Inputs of a step. Default: the task's.
    """

    epochs: int | None = None
    lr: float | None = None
    alpha: float = 0.5
    temperature: float = 2.0
    distill: bool = True
    batch_size: int | None = None

    def training(self, run: Run, task: Task) -> TrainSettings:
        """Return the settings of the training.

        Raises:
            ConfigError: Values that make no sense, all of them together.
        """
        from dataclasses import fields

        from supernets.training import TrainSettings

        known = {f.name for f in fields(TrainSettings)}
        values = {k: v for k, v in task.training_defaults.items() if k in known and k not in ("options", "steps")}
        anew = values.get("optimizer", "sgd") == "sgd"
        epochs, lr = int(values.get("epochs", 10)), float(values.get("lr", TrainSettings(epochs=1).lr))
        values |= {
            "epochs": (max(1, epochs // 10) if anew else epochs) if self.epochs is None else self.epochs,
            "lr": (lr / 10 if anew else lr) if self.lr is None else self.lr,
            "seed": run.config.seed,
            "evaluate_every": 0,
        }
        options: dict[str, Any] = {"random_subnets": 0, "alpha": 1.0, "gamma": 0.0}
        if self.distill:
            teacher = str((run.folder / SUPERNET_FOLDER).resolve())
            options |= {"alpha": self.alpha, "gamma": 1.0, "temperature": self.temperature, "teacher": teacher}
        settings = TrainSettings(**values, options=options)
        if faults := settings.faults():
            raise ConfigError([f"finetune: {fault}" for fault in faults])
        return settings


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
    settings = settings or FinetuneSettings()
    training = settings.training(run, task)
    folder = out or run.folder / "finetuned" / str(record.id)
    asked = json.loads(json.dumps({"id": record.id, "architecture": record.arch, "training": training.to_json()}))
    _check_folder(folder, asked)
    single = _extracted(run, task, net, record)
    size = settings.batch_size or int(task.training_defaults.get("batch_size", 128))
    data = task.training_data(size, seed=run.config.seed)
    try:
        prepare("instatune", training, single, data)
    except SupernetError as error:
        raise ConfigError(str(error)) from error
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


def _extracted(run: Run, task: Task, net: Supernet, record: Record) -> SingleSupernet:
    """Return the subnet as an ordinary network, with recalibrated statistics as in the search."""
    from supernets.single import SingleSupernet

    config = run.config.evaluation
    with net.activated(record.arch):
        calibration = task.calibration_inputs(config.batch_size, config.calibration_size)
        net.recalibrate(net.fit_inputs(inputs) for inputs in calibration)
        return SingleSupernet(net.extract(record.arch).eval(), net, record.arch).eval()


def _loss(task: Task, outputs: Any, targets: Any) -> Any:
    from supernets.training import logits_of

    return task.loss(logits_of(outputs), targets)


def _scores(run: Run, task: Task, net: SingleSupernet) -> dict[str, dict[str, float]]:
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
    run: Run, record: Record, net: Supernet, single: SingleSupernet, folder: Path, format: str, after: Mapping[str, Any]
) -> None:
    """Export the trained network as any subnet is; its card has the new figures."""
    from nassearch.exports import Subject, export_subject
    from nassearch.pretrained import local_folder

    tuned = replace(record, values={**record.values, **after["search"]}, report=after["report"], remeasured={})
    subject = Subject(
        single.module.eval(),
        net.example_inputs(record.arch, batch_size=2),
        net.rebuild_source(record.arch),
        local_folder(run.config.model) if run.config.model else None,
        run.tokenizer,
    )
    if folder.exists():
        shutil.rmtree(folder)
    export_subject(run, tuned, subject, net, format, folder)


def _print(console: Console, record: Record, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table("metric", "split", "before", "after", title=f"Subnet #{record.id}, fine-tuned")
    for split in _SPLITS:
        for metric, value in after[split].items():
            table.add_row(metric, split, f"{before[split][metric]:.4g}", f"{value:.4g}")
    console.print(table)
