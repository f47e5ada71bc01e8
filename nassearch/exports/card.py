"""The card beside an export: what it is, what it scores, on what device, and how it came about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nassearch.exports.base import ExportFormat
from nassearch.exports.inputs import input_shapes
from nassearch.manifest import versions
from nassearch.runs import Record, Run

if TYPE_CHECKING:
    from supernets.base import Inputs


def card_json(run: Run, record: Record, exporter: ExportFormat, difference: float, example: Inputs) -> dict[str, Any]:
    """Return the card as JSON data."""
    return {
        "format": exporter.name,
        "form": exporter.form,
        "reason": exporter.reason,
        "subnet": record.id,
        "space": run.space.name,
        "space_identity": run.space.identity,
        "architecture": record.arch,
        "active_genes": _active(run, record),
        "inputs": input_shapes(example),
        "task": run.manifest.get("task"),
        "metrics": {
            "search_split": dict(record.values),
            "report_split": dict(record.report),
            "remeasured": dict(record.remeasured),
        },
        "reused": record.reused,
        "objectives": [str(o) for o in run.goal.objectives],
        "constraints": [str(c) for c in run.goal.constraints],
        "devices": {m: d for m, d in record.device.items() if m in run.goal.metrics},
        "max_difference_to_subnet": difference,
        "tolerance": exporter.tolerance,
        "command": run.manifest.get("command"),
        "seed": run.config.seed,
        "versions": versions(),
    }


def _active(run: Run, record: Record) -> list[str]:
    active = run.space.active(np.array([record.row], dtype=np.int64))[0]
    return [gene.name for gene, used in zip(run.space.genes, active, strict=True) if used]


def card_markdown(card: dict[str, Any], exporter: ExportFormat, example: Inputs) -> str:
    """Return the card for people."""
    metrics = card["metrics"]
    names = sorted({m for part in metrics.values() for m in part})
    rows = [
        f"| {m} | {_cell(metrics['search_split'], m)} | {_cell(metrics['remeasured'], m)} "
        f"| {_cell(metrics['report_split'], m)} |"
        for m in names
    ]
    inputs = "\n".join(
        f"- `{n}`: {i['dtype']} [{', '.join(str(s) for s in i['shape'])}]" for n, i in card["inputs"].items()
    )
    devices = "\n".join(f"- `{m}`: {_device(d)}" for m, d in card["devices"].items())
    constraints = ", ".join(f"`{c}`" for c in card["constraints"]) or "none"
    genes = "\n".join(f"- `{g}`: {v}" for g, v in card["architecture"].items() if g in card["active_genes"])
    return f"""# Subnet {card["subnet"]} of `{card["space"]}`, as {card["format"]}

```python
{exporter.usage(example)}
```

{_form(card)}Inputs:

{inputs}

{_preprocessing(card)}

| metric | search split / during the search | measured again | report split |
|---|---|---|---|
{chr(10).join(rows)}

The search optimised the search split; the report split was never seen by it.{_reused(card)}

Objectives: {", ".join(f"`{o}`" for o in card["objectives"])}. Constraints: {constraints}.

{"Devices:" if devices else ""}

{devices}

Loaded again, its outputs differ from the subnet's by at most {card["max_difference_to_subnet"]:.2g}
(allowed: {card["tolerance"]:g}).

Command: `{card["command"]}` (seed {card["seed"]}).

Architecture (without the genes of parts that it skips):

{genes}
"""


def _form(card: dict[str, Any]) -> str:
    return f"Form: {card['form']}, because {card['reason']}.\n\n" if card["form"] else ""


def _preprocessing(card: dict[str, Any]) -> str:
    task = card["task"] if isinstance(card["task"], dict) else {}
    said = task.get("preprocessing")
    text = f"Preprocessing: {said}. " if said else ""
    classes = task.get("classes") or []
    if 0 < len(classes) <= 20:
        text += f"Outputs: {', '.join(f'`{c}`' for c in classes)}, in this order. "
    return text + "More on the data: `task` in `card.json`."


def _cell(part: dict[str, float], metric: str) -> str:
    return f"{part[metric]:.4g}" if metric in part else "-"


def _device(data: Any) -> str:
    if not isinstance(data, dict):
        return str(data)
    from predictors import LatencySetting

    identity, setting = data.get("device") or {}, data.get("setting")
    if isinstance(setting, dict):
        setting = LatencySetting.from_json(setting)
    return f"{setting}, {identity.get('gpu') or identity.get('cpu') or ''}".rstrip(", ")


def _reused(card: dict[str, Any]) -> str:
    """Return which values the search took over from earlier runs."""
    return "".join(f"\n`{m}` of the search was reused from {run}." for m, run in card["reused"].items())
