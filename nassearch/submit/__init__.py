"""Sending a run to a Ray cluster as a job: the command and its files go there, the run folder comes back."""

from __future__ import annotations

from nassearch.submit.client import attach, submit
from nassearch.submit.options import SubmitOptions

__all__ = ["SubmitOptions", "attach", "submit"]
