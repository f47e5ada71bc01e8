"""Pictures of a run: the Pareto plot as an image, and a report as one HTML file."""

from nassearch.reports.document import write_report
from nassearch.reports.plots import plot_front

__all__ = ["plot_front", "write_report"]
