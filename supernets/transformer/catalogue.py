"""The families that are known, ours and those that users add."""

from __future__ import annotations

from supernets.errors import SupernetError
from supernets.registry import register_adapter
from supernets.transformer.adapter import TransformerAdapter
from supernets.transformer.family import Family

_FAMILIES: dict[str, Family] = {}


def register_transformer_family(family: Family) -> Family:
    """Let `supernets.convert` handle the models of a family, and let their saved supernets be loaded.

    Args:
        family: Its table.

    Raises:
        SupernetError: The name, or one of its models, is taken; or the library is not one of the two.
    """
    if family.library not in ("transformers", "timm"):
        raise SupernetError(f"a family's library is 'transformers' or 'timm', got {family.library!r}")
    for other in _FAMILIES.values():
        both = sorted(set(family.models) & set(other.models)) if family.library == other.library else []
        if other.name == family.name or both:
            what = f"models {', '.join(both)}" if both else "a family of that name"
            raise SupernetError(f"cannot register family {family.name!r}: {what} known already as {other.name!r}")
    _FAMILIES[family.name] = family
    register_adapter(TransformerAdapter(family))
    return family


def transformer_families() -> dict[str, Family]:
    """Return name -> family."""
    return dict(_FAMILIES)
