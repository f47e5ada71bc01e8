"""Pictures of a run: the Pareto plot as an image, and a report as one HTML file."""

from nassearch.reports import expert_plots as expert_plots  # registers its picture
from nassearch.reports import experts as experts  # registers its section
from nassearch.reports.document import write_report
from nassearch.reports.plots import plot_front

__all__ = ["plot_front", "write_report"]
