"""What the user makes elastic, checked, and the search space that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import Gene, SearchSpace
from search_spaces.errors import did_you_mean
from supernets.errors import SupernetError
from supernets.transformer.wiring import WiredStack

Choices = dict[str, dict[str, list[int]]]
"""Stack name -> ``depth`` or dimension -> values, ascending."""

# Of BERT's space in InstaTune (arXiv:2308.15609): 12 layers: 6-12; 12 heads: 6, 8, 10, 12; 3072: 1024, 2048, 3072.
_RATIOS = {"heads": (1 / 2, 2 / 3, 5 / 6, 1), "cross_heads": (1 / 2, 2 / 3, 5 / 6, 1), "ffn": (1 / 3, 2 / 3, 1)}
_SMALLEST_DEPTH = 1 / 2


def resolve_choices(stacks: Sequence[WiredStack], given: Mapping[str, Any], uniform: bool = False) -> Choices:
    """Return the values of all genes: the user's, else the paper's ratios.

    Args:
        stacks: The stacks of the model.
        given: ``depth``, ``heads``, ``cross_heads``, ``ffn`` for all stacks, ``NAME_depth``, … for the stack NAME; each
            a list of ints.
        uniform: Whether what no stock configuration can hold stays as it is by default.

    Raises:
        SupernetError: An option that the model does not have, or a list that does not suit it.
    """
    names = {s.table.name for s in stacks}
    allowed = {o for s in stacks for d in s.shape for o in (d, f"{s.table.name}_{d}" if s.table.name else d)}
    for option in given:
        if option not in allowed:
            raise SupernetError(
                f"cannot make {option!r} elastic in this model{did_you_mean(option, allowed)}; "
                f"allowed: {', '.join(sorted(allowed))}"
            )
    choices: Choices = {name: {} for name in names}
    for stack in stacks:
        for dim, full in stack.shape.items():
            own = f"{stack.table.name}_{dim}"
            option = own if own in given else dim
            values = given.get(option)
            step = stack.per_unit.get(dim, 1)
            smallest = max(1, stack.table.pinned) if dim == "depth" else step
            if values is None:
                chosen = _default(dim, full, step, smallest)
                chosen = _held(stack, dim, chosen) if uniform else chosen
            else:
                chosen = _checked(option, values, full, step, smallest)
            choices[stack.table.name][dim] = chosen
    if uniform:
        _check_joint(stacks, choices)
    return choices


def _held(stack: WiredStack, dim: str, values: list[int]) -> list[int]:
    """Return the values that a stock configuration can hold, the full one at least."""
    table, config = stack.table, stack.config
    if not table.holds(dim):
        return values[-1:]
    if config is None or dim not in ("heads", "cross_heads"):
        return values

    def valid(heads: int) -> bool:
        sizes = {table.n_heads: heads, table.head_dim_key: stack.head_dim}
        if table.n_groups:
            sizes[table.n_groups] = heads // stack.per_unit[dim]
        try:
            type(config).from_dict({**config.to_dict(), **sizes})
        except Exception:  # validation raises what it likes
            return False
        return True

    return [v for v in values if v == values[-1] or valid(v)]


def _check_joint(stacks: Sequence[WiredStack], choices: Choices) -> None:
    """Refuse different values of a dimension where one key of the configuration sizes several stacks.

    Raises:
        SupernetError: With the option to give instead.
    """
    seen: dict[str, list[int]] = {}
    for stack in stacks:
        for dim in stack.extents if stack.table.joint else ():
            name, values = dim.removeprefix("cross_"), choices[stack.table.name][dim]
            if seen.setdefault(name, values) != values:
                raise SupernetError(
                    f"with uniform, all stacks share one {name}, got {seen[name]} and {values}; give {name} once"
                )


def _default(dim: str, full: int, step: int, smallest: int) -> list[int]:
    if dim == "depth":
        return list(range(max(smallest, round(full * _SMALLEST_DEPTH)), full + 1))
    if dim == "ffn":
        step = 64 if full >= 768 else 8 if full >= 64 else 1  # sizes that hardware likes
    sizes = {max(step, round(full * ratio / step) * step) for ratio in _RATIOS[dim]}
    return sorted({min(size, full) for size in sizes} | {full})


def _checked(option: str, values: Any, full: int, step: int, smallest: int) -> list[int]:
    if isinstance(values, int) and not isinstance(values, bool):
        values = [values]
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise SupernetError(f"{option} must be a list of ints such as [{full // 2}, {full}], got {values!r}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= full or value % step:
            unit = f" in steps of {step} (heads that share a key-value head go together)" if step > 1 else ""
            raise SupernetError(
                f"{option}: {value!r} is not possible; this model allows ints {smallest} to {full}{unit}"
            )
    if len(set(values)) != len(values):
        raise SupernetError(f"{option} repeats a value: {list(values)}")
    if full not in values:
        raise SupernetError(
            f"{option} {list(values)} lacks {full}, the model's own: the largest subnet is the model; add it"
        )
    return sorted(values)


def gene_names(stack: WiredStack, dim: str, uniform: bool) -> list[str]:
    """Return the name of the gene that rules each slot of a stack."""
    joint = uniform and stack.table.joint
    name = dim.removeprefix("cross_") if joint else f"{stack.table.prefix}{dim}"
    one = uniform or stack.table.dims[dim].shared
    return [name if one else f"{name}.{slot}" for slot in range(len(stack.layers))]


def transformer_space(name: str, stacks: Sequence[WiredStack], choices: Choices, uniform: bool) -> SearchSpace:
    """Build the space; a dimension with one value has no gene.

    Genes: ``depth``; ``heads.i``, ``cross_heads.i`` and ``ffn.i`` of layer slot i, active where the depth reaches it
    (one gene ``heads``, … where the layers must agree). With several stacks their names come before:
    ``encoder.heads.0``. Slot i is the i-th layer in the order in which layers are kept.

    Raises:
        SupernetError: Nothing is elastic.
    """
    genes: list[Gene] = []
    first = 0
    for stack in stacks:
        values = choices[stack.table.name]
        depths, depth = values["depth"], f"{stack.table.prefix}depth"
        if len(depths) > 1:
            genes.append(Gene(depth, depths, role="depth", layer=first))
        for dim in stack.extents:
            if len(values[dim]) == 1:
                continue
            known = {g.name for g in genes}  # one gene may rule several stacks
            for slot, gene in enumerate(n for n in dict.fromkeys(gene_names(stack, dim, uniform)) if n not in known):
                deep_enough = [d for d in depths if d > slot]
                when = {} if len(deep_enough) == len(depths) else {depth: deep_enough}
                genes.append(Gene(gene, values[dim], role=dim, layer=first + slot, active_when=when))
        first += len(stack.layers)
    if not genes:
        raise SupernetError("every list has one value: nothing is elastic; give depth, heads or ffn more values")
    return SearchSpace(name, genes)
