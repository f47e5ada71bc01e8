"""Exporting a subnet of a run: extract, write, load again, compare, describe."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ConfigError, ExportError
from nassearch.exports.base import ExportFormat, Subject, make_export
from nassearch.exports.card import card_json, card_markdown
from nassearch.exports.inputs import other_counts, text_length
from nassearch.manifest import replace_folder
from nassearch.pretrained import folder_of
from nassearch.runs import Record, Run

if TYPE_CHECKING:
    from torch import nn

    from supernets import Supernet
    from supernets.base import Inputs


@dataclass(frozen=True)
class ExportResult:
    """An export that was loaded again and found equal to the subnet.

    Attributes:
        folder: Where it lies.
        format: Name of the format.
        record: The evaluation it came from.
        files: Names of the files.
        max_difference: Greatest absolute difference of its outputs to the subnet's.
    """

    folder: Path
    format: str
    record: Record
    files: tuple[str, ...]
    max_difference: float

    def to_json(self) -> dict[str, Any]:
        """Return what a script needs to know."""
        return {
            "folder": str(self.folder),
            "format": self.format,
            "id": self.record.id,
            "files": list(self.files),
            "max_difference": self.max_difference,
        }


def export(run: Run, subnet: str = "knee", format: str = "torch", out: Path | None = None) -> ExportResult:
    """Export one subnet of a run as an ordinary model.

    The subnet's normalisation statistics are recalibrated on the run's calibration split, as in every
    evaluation. The export counts only after it was loaded again and gave the subnet's outputs for two batch
    sizes; otherwise nothing is left.

    Args:
        run: The run.
        subnet: See `Run.select`.
        format: One of `list_exports`.
        out: Folder to write. Default: ``exports/ID-FORMAT`` in the run, replaced if it exists.

    Raises:
        ConfigError: No such subnet or format, or ``out`` holds files.
        ExportError: The export does not equal the subnet.
    """
    make_export(format)
    record = run.select(subnet)
    folder = out or run.folder / "exports" / f"{record.id}-{format}"
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} exists and is not an empty folder; choose another one")
    net = run.supernet().eval()
    config = run.config.evaluation
    with net.activated(record.arch):
        calibration = run.task().calibration_inputs(config.batch_size, config.calibration_size)
        net.recalibrate(net.fit_inputs(inputs) for inputs in calibration)
        subject = subject_of(run, record, net, net.extract(record.arch))
    return export_subject(run, record, subject, net, format, folder, replace=out is None)


def subject_of(run: Run, record: Record, net: Supernet, module: nn.Module) -> Subject:
    """Return what is exported of a network that came from a subnet of a run."""
    return Subject(
        module.eval(),
        net.example_inputs(record.arch, batch_size=2),
        net.rebuild_source(record.arch),
        folder_of(run.config.model) if run.config.model else None,
        run.tokenizer,
    )


def export_subject(
    run: Run, record: Record, subject: Subject, net: Supernet, format: str, folder: Path, *, replace: bool = False
) -> ExportResult:
    """Write a network that came from a subnet of a run, load it again, compare, and describe it.

    Args:
        run: The run.
        record: The evaluation, with the figures that the card shall tell.
        subject: The network.
        net: The supernet, for further inputs.
        format: One of `list_exports`.
        folder: Where to.
        replace: Whether a folder that is there is replaced.

    Raises:
        ExportError: The export does not equal the network.
    """
    exporter = make_export(format)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.resolve().with_name(f".{folder.resolve().name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        exporter.write(subject, scratch)
        difference = _verify(exporter, subject, net, record, scratch)
        card = card_json(run, record, exporter, difference, subject.example)
        (scratch / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        (scratch / "README.md").write_text(card_markdown(card, exporter, subject.example), encoding="utf-8")
        if folder.exists() and replace:  # an earlier export of this run
            shutil.rmtree(folder)
        replace_folder(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    files = tuple(sorted(p.name for p in folder.iterdir()))
    return ExportResult(folder, format, record, files, difference)


def _verify(exporter: ExportFormat, subject: Subject, net: Supernet, record: Record, folder: Path) -> float:
    """Return the greatest difference of the loaded export to the subnet, over batch sizes, lengths and counts.

    Raises:
        ExportError: It is more than the format's tolerance, or shapes differ.
    """
    import torch

    from predictors.backends.onnx_export import plain_outputs

    batches: list[Inputs] = [subject.example, net.example_inputs(record.arch, batch_size=3)]
    if "sequence" in signature(net.example_inputs).parameters and (length := text_length(subject.example)) > 1:
        batches.append(net.example_inputs(record.arch, batch_size=2, sequence=length - 1))  # type: ignore[call-arg]
    if (uneven := other_counts(batches[0], batches[1])) is not None:
        batches.append(uneven)
    worst = 0.0
    for batch, got in zip(batches, exporter.outputs(folder, batches), strict=True):
        with torch.no_grad():
            expected = [t for _, t in plain_outputs(subject.module, batch)]
        if [tuple(t.shape) for t in got] != [tuple(t.shape) for t in expected]:
            raise ExportError(
                f"the {exporter.name} export gives shapes {[tuple(t.shape) for t in got]}, the subnet "
                f"{[tuple(t.shape) for t in expected]}; nothing was written"
            )
        for a, b in zip(got, expected, strict=True):
            worst = max(worst, float((a - b).abs().max()))
            if not torch.allclose(a, b, rtol=exporter.tolerance, atol=exporter.tolerance):
                raise ExportError(
                    f"the outputs of the {exporter.name} export differ from the subnet's by {worst:.3g} (allowed: "
                    f"{exporter.tolerance:g}); nothing was written"
                )
    return worst
