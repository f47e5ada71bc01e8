"""Search strategies, all ask/tell, by name."""

from nassearch.strategies import additive_mip as additive_mip  # these modules register their strategies
from nassearch.strategies import cmaes as cmaes
from nassearch.strategies import evoesap as evoesap
from nassearch.strategies import linas as linas
from nassearch.strategies import linas_paper as linas_paper
from nassearch.strategies import local_search as local_search
from nassearch.strategies import nsga2 as nsga2
from nassearch.strategies import optuna_adapter as optuna_adapter
from nassearch.strategies import probed_linas as probed_linas
from nassearch.strategies import pymoo_adapter as pymoo_adapter
from nassearch.strategies import random as random
from nassearch.strategies import regularized_evolution as regularized_evolution
from nassearch.strategies import uniform as uniform
from nassearch.strategies import weaknas as weaknas
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
