"""Expert configurations of Mixture-of-Experts language models."""

from supernets.experts.adapter import ExpertsAdapter
from supernets.experts.allocation import threshold_architecture
from supernets.experts.criteria import get_criterion, list_criteria, register_criterion
from supernets.experts.fidelity import esap, fidelity, kl_divergence
from supernets.experts.operators import Operator, Request, get_operator, list_operators, register_operator
from supernets.experts.supernet import ExpertSupernet
from supernets.registry import register_adapter

ADAPTER = register_adapter(ExpertsAdapter())

__all__ = [
    "ADAPTER",
    "ExpertSupernet",
    "ExpertsAdapter",
    "Operator",
    "Request",
    "esap",
    "fidelity",
    "get_criterion",
    "get_operator",
    "kl_divergence",
    "list_criteria",
    "list_operators",
    "register_criterion",
    "register_operator",
    "threshold_architecture",
]
