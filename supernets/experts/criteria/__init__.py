"""Which experts of a block matter most: one file for each idea, a registry."""

from supernets.experts.criteria import aimer as aimer
from supernets.experts.criteria import easy_ep as easy_ep
from supernets.experts.criteria import leave_one_out as leave_one_out
from supernets.experts.criteria import mone as mone
from supernets.experts.criteria import norms as norms
from supernets.experts.criteria import reap as reap
from supernets.experts.criteria import router_similarity as router_similarity
from supernets.experts.criteria import usage as usage
from supernets.experts.criteria.registry import Criterion, get_criterion, list_criteria, register_criterion
from supernets.experts.criteria.super_experts import super_experts

__all__ = ["Criterion", "get_criterion", "list_criteria", "register_criterion", "super_experts"]
