"""Search strategies, all ask/tell, by name."""

from nassearch.strategies import linas as linas  # registers its strategy
from nassearch.strategies import nsga2 as nsga2
from nassearch.strategies import random as random
from nassearch.strategies.base import Analytic, Strategy
from nassearch.strategies.registry import (
    list_strategies,
    make_strategy,
    register_strategy,
    strategy_options,
    strategy_summary,
)

__all__ = [
    "Analytic",
    "Strategy",
    "list_strategies",
    "make_strategy",
    "register_strategy",
    "strategy_options",
    "strategy_summary",
]
