"""The report of a run: one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError, RunFolderError
from nassearch.manifest import write_atomically
from nassearch.reports import background, results
from nassearch.reports.markup import Markup, escape, join, script_data, tag
from nassearch.reports.plots import plot_front
from nassearch.runs import Run

# The page may run what is written in it and reach nothing else, whatever a script would like to load.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def write_report(run: Run, out: str | Path | None = None) -> Path:
    """Write the report of a run, whole or not at all.

    Args:
        run: The run, finished or not.
        out: The HTML file. Default: ``report.html`` of the run folder, and beside it ``front.png``.

    Returns:
        The HTML file.

    Raises:
        ConfigError: ``out`` is no .html file, or its folder does not exist.
    """
    path = run.folder / "report.html" if out is None else Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"cannot write the report to {path}: end it in .html")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    if out is None:
        plot_front(run, run.folder / "front.png")
    write_atomically(path, render(run))
    return path


def render(run: Run) -> str:
    """Return the report as one HTML text."""
    from plotly.offline import get_plotlyjs

    manifest, figures = _manifest(run), results.Figures()
    body = [
        background.headline(run, manifest),
        results.summary(run),
        results.pareto(run, figures),
        results.front_members(run),
        results.search_progress(run, figures),
        results.genes(run, figures),
        results.predictions(run, figures),
        background.measurement(run, manifest),
        background.data(run, manifest),
        results.failures(run),
        background.making(run, manifest),
        background.glossary(),
    ]
    title = f"{run.space.name} on {run.config.task}"
    head = [
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", f"{title}: nassearch report"),
        Markup(f"<style>{_file('report.css')}</style>"),
    ]
    scripts = [script_data("figures", figures.data)]
    if figures.data:
        scripts += [Markup(f"<script>{get_plotlyjs()}</script>")]
    scripts += [Markup(f"<script>{_file('report.js')}</script>")]
    page = tag("main", *body), tag("footer", _signature(manifest)), join(scripts)
    return f'<!doctype html>\n<html lang="en">\n<head>{join(head)}</head>\n<body>{join(page)}</body>\n</html>\n'


def _file(name: str) -> str:
    return resources.files("nassearch.reports").joinpath(name).read_text(encoding="utf-8")


def _manifest(run: Run) -> Mapping[str, Any]:
    """Return the manifest; nothing where it is missing, for the evaluations can be shown without it."""
    try:
        found = run.manifest
    except RunFolderError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _signature(manifest: Mapping[str, Any]) -> Markup:
    versions = manifest.get("versions")
    version = versions.get("nassearch") if isinstance(versions, Mapping) else None
    return escape(f"Made by nassearch {version}." if version else "Made by nassearch.")
