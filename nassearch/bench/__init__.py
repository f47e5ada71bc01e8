"""Comparing search strategies on problems whose answers are in a table."""

from nassearch.bench import hat_latency as hat_latency  # registers its reader
from nassearch.bench import nas_bench_201 as nas_bench_201
from nassearch.bench import ofa_mobilenetv3 as ofa_mobilenetv3
from nassearch.bench import user_table as user_table
from nassearch.bench.problem import TabularProblem
from nassearch.bench.registry import list_readers, make_problem, read_table, register_reader
from nassearch.bench.result import BenchResult, Compared, Reached
from nassearch.bench.runner import bench
from nassearch.bench.tables import KnownFront, RowTable, Table
from nassearch.bench.trial import Contender, Point, run_trial

__all__ = [
    "BenchResult",
    "Compared",
    "Contender",
    "KnownFront",
    "Point",
    "Reached",
    "RowTable",
    "Table",
    "TabularProblem",
    "bench",
    "list_readers",
    "make_problem",
    "read_table",
    "register_reader",
    "run_trial",
]
