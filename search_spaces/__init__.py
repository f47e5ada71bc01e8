"""What may vary: genes, search spaces and their registry. NumPy only."""

from search_spaces import hat as hat  # registers its spaces
from search_spaces import mobilenetv3 as mobilenetv3  # registers its spaces
from search_spaces.derived import Derived
from search_spaces.errors import InvalidArchitecture, SearchSpaceError, UnknownSpace
from search_spaces.gene import Gene, Value
from search_spaces.hat import hat_averages, hat_space
from search_spaces.inverse import rows_of_features
from search_spaces.mobilenetv3 import mobilenetv3_space
from search_spaces.registry import get_space, list_spaces, register_space, space_summary
from search_spaces.rows import Rows
from search_spaces.space import SearchSpace

__all__ = [
    "Derived",
    "Gene",
    "InvalidArchitecture",
    "Rows",
    "SearchSpace",
    "SearchSpaceError",
    "UnknownSpace",
    "Value",
    "get_space",
    "hat_averages",
    "hat_space",
    "list_spaces",
    "mobilenetv3_space",
    "register_space",
    "rows_of_features",
    "space_summary",
]
