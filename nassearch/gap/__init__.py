"""The supernet-quality report: inherited quality beside that of the same networks trained from scratch."""

from nassearch.gap.comparison import compare_gaps
from nassearch.gap.measure import measure_gap

__all__ = ["compare_gaps", "measure_gap"]
