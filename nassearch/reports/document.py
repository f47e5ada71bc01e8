"""The report of a run: one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError, RunFolderError
from nassearch.manifest import write_atomically
from nassearch.reports import background, results
from nassearch.reports.page import html_page
from nassearch.reports.plots import plot_front, save_figure
from nassearch.reports.sections import pictures, sections
from nassearch.runs import Run


def write_report(run: Run, out: str | Path | None = None, *, others: Sequence[Run] = ()) -> Path:
    """Write the report of a run, whole or not at all.

    Args:
        run: The run, finished or not.
        out: The HTML file. Default: ``report.html`` of the run folder, and beside it ``front.png`` and the pictures
            that only some runs have.
        others: Runs whose fronts are drawn beside its own, such as baselines.

    Returns:
        The HTML file.

    Raises:
        ConfigError: ``out`` is no .html file, or its folder does not exist; or another run has other metrics.
    """
    path = run.folder / "report.html" if out is None else Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"cannot write the report to {path}: end it in .html")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    if out is None:
        plot_front(run, run.folder / "front.png", others=others)
        for name, picture in pictures(run).items():
            save_figure(picture, run.folder / f"{name}.png")
    write_atomically(path, render(run, others))
    return path


def render(run: Run, others: Sequence[Run] = ()) -> str:
    """Return the report as one HTML text."""
    manifest, figures = _manifest(run), results.Figures()
    body = [
        background.headline(run, manifest),
        results.summary(run),
        results.pareto(run, figures, others),
        results.front_members(run),
        results.search_progress(run, figures),
        results.genes(run, figures),
        *sections(run, figures),
        results.predictions(run, figures),
        background.measurement(run, manifest),
        background.data(run, manifest),
        results.failures(run),
        background.making(run, manifest),
        background.glossary(),
    ]
    title = f"{run.space.name} on {run.config.task}: nassearch report"
    return html_page(title, body, figures.data, _signature(manifest))


def _manifest(run: Run) -> Mapping[str, Any]:
    """Return the manifest; nothing where it is missing, for the evaluations can be shown without it."""
    try:
        found = run.manifest
    except RunFolderError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _signature(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions")
    version = versions.get("nassearch") if isinstance(versions, Mapping) else None
    return f"Made by nassearch {version}." if version else "Made by nassearch."
