"""What becomes of the experts that are not kept: one file for each operator, a registry."""

from supernets.experts.operators import dern as dern
from supernets.experts.operators import drop as drop
from supernets.experts.operators import hc_smoe as hc_smoe
from supernets.experts.operators import m_smoe as m_smoe
from supernets.experts.operators import mone as mone
from supernets.experts.operators import naee as naee
from supernets.experts.operators import ream as ream
from supernets.experts.operators import sub_moe as sub_moe
from supernets.experts.operators.registry import Operator, Request, get_operator, list_operators, register_operator

__all__ = ["Operator", "Request", "get_operator", "list_operators", "register_operator"]
