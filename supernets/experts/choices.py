"""What the user makes elastic in the experts, checked, and the search space that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces import Gene, SearchSpace
from search_spaces.errors import did_you_mean
from supernets.errors import SupernetError
from supernets.experts.blocks import Block
from supernets.experts.criteria import get_criterion
from supernets.experts.operators import get_operator, list_operators

OPTIONS = ("keep", "operators", "k", "top_p", "width", "criteria")
_KEEP = (1 / 4, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)
_WIDTH = (1 / 2, 3 / 4, 1)
_DEFAULT_CRITERIA = ("reap", "frequency", "easy-ep", "aimer")


@dataclass(frozen=True)
class Choices:
    """The values of all genes.

    Attributes:
        keep: Experts kept in a layer.
        operators: What becomes of the others.
        k: Experts per token.
        top_p: Probability at which a token has enough experts; 1 for k experts always.
        width: Neurons of an expert.
        criteria: Which experts are kept.
        uniform: Whether all layers agree.
    """

    keep: tuple[int, ...]
    operators: tuple[str, ...]
    k: tuple[int, ...]
    top_p: tuple[float, ...]
    width: tuple[int, ...]
    criteria: tuple[str, ...]
    uniform: bool

    def to_json(self) -> dict[str, Any]:
        """Return the choices as JSON data."""
        return {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choices:
        """Rebuild from `to_json`."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
        return cls(**values)


def resolve(
    block: Block, given: Mapping[str, Any], *, uniform: bool, calibrated: bool, stock_widths: Sequence[int]
) -> Choices:
    """Return the user's lists, else defaults, checked.

    Args:
        block: One of the blocks, which are all alike.
        given: Some of `OPTIONS`, each a list.
        uniform: Whether all layers agree, and only what a stock class can hold is offered.
        calibrated: Whether there are calibration data.
        stock_widths: The widths that the model's configuration can hold.

    Raises:
        SupernetError: An unknown option, or a list that does not suit the model.
    """
    for option in given:
        if option not in OPTIONS:
            raise SupernetError(
                f"cannot make {option!r} elastic in experts{did_you_mean(option, OPTIONS)}; "
                f"allowed: {', '.join(OPTIONS)}"
            )
    keep = _numbers("keep", given, _default_keep(block), range(1, block.n_experts + 1), block.n_experts)
    for value in keep:
        if not block.allows(value):
            raise SupernetError(
                f"keep: {value} of {block.n_experts} experts is not possible; the router has {block.groups} groups, "
                f"each of which must keep the same number, {block.least_per_group} at least"
            )
    least_k = block.largest_k(min(keep))
    k = _numbers("k", given, range(max(1, min(block.k // 2, least_k)), block.k + 1), range(1, block.k + 1), block.k)
    if min(k) > least_k:
        raise SupernetError(
            f"k: with {min(keep)} experts kept a token has {least_k} at most; give k such a value, or keep more"
        )
    # The grouped kernels of transformers want rows of whole 16 bytes.
    unit = 16 // block.tensors["down_proj"].element_size()
    widths = [w for w in range(unit, block.width + 1, unit) if not uniform or w in stock_widths]
    widths += [block.width] if block.width not in widths else []
    width = _numbers("width", given, _default_width(block, widths), widths, block.width)
    top_p = _top_p(given.get("top_p", (1.0,)), uniform=uniform)
    operators = _named("operators", given, _operators(uniform, calibrated), get_operator, calibrated)
    for name in operators:
        for value in keep[:-1]:
            if reason := get_operator(name).impossible(block, value):
                raise SupernetError(f"operators: {name!r} is not possible here: {reason}; leave it out, or {value}")
        if uniform and get_operator(name).all_rows:
            raise SupernetError(
                f"operators: no stock class can hold what {name!r} makes, so it cannot be uniform; "
                f"those that can: {', '.join(_operators(True, calibrated))}"
            )
    defaults = [c for c in _DEFAULT_CRITERIA if calibrated or not get_criterion(c).calibrated]
    criteria = _named("criteria", given, defaults, get_criterion, calibrated)
    return Choices(keep, operators, k, top_p, width, criteria, uniform)


def _default_keep(block: Block) -> list[int]:
    unit, n = block.groups, block.n_experts
    sizes = {max(1, round(n * share / unit)) * unit for share in _KEEP} | {n}
    return sorted(s for s in sizes if block.allows(s) and s <= n and (s >= min(block.k, n) or s == n))


def _default_width(block: Block, allowed: Sequence[int]) -> list[int]:
    step = 64 if block.width >= 512 else 8  # sizes that hardware likes
    sizes = {max(1, round(block.width * share / step)) * step for share in _WIDTH}
    return sorted({s for s in sizes if s in set(allowed)} | {block.width})


def _operators(uniform: bool, calibrated: bool) -> list[str]:
    every = {name: o for name in list_operators() if (o := get_operator(name)).offered}
    fitting = [n for n, o in every.items() if (calibrated or not o.calibrated) and not (uniform and o.all_rows)]
    return sorted(fitting, key=lambda n: (every[n].calibrated, n))  # dropping, the simplest, first


def _list(option: str, values: Any) -> list[Any]:
    if isinstance(values, str | int | float) and not isinstance(values, bool):
        values = [values]
    if not isinstance(values, Sequence) or not values:
        raise SupernetError(f"{option} must be a list, got {values!r}")
    if len(set(values)) != len(values):
        raise SupernetError(f"{option} repeats a value: {list(values)}")
    return list(values)


def _numbers(
    option: str, given: Mapping[str, Any], default: Sequence[int], allowed: Sequence[int], full: int
) -> tuple[int, ...]:
    values = _list(option, given.get(option, list(default)))
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
            few = (
                ", ".join(map(str, allowed))
                if len(allowed) < 12
                else f"{', '.join(map(str, allowed[:4]))}, … {max(allowed)}"
            )
            raise SupernetError(f"{option}: {value!r} is not possible; this model allows {few}")
    if full not in values:
        raise SupernetError(f"{option} {values} lacks {full}, the model's own: the largest subnet is the model; add it")
    return tuple(sorted(values))


def _top_p(given: Any, *, uniform: bool) -> tuple[float, ...]:
    values = [float(v) if isinstance(v, int | float) else v for v in _list("top_p", given)]
    for value in values:
        if not isinstance(value, float) or not 0 < value <= 1:
            raise SupernetError(f"top_p: {value!r} is not possible; give numbers above 0, up to 1")
    if 1.0 not in values:
        raise SupernetError(f"top_p {values} lacks 1.0, the model's own; add it")
    if uniform and len(values) > 1:
        raise SupernetError("top_p: no stock class can choose experts by top-p, so it cannot be uniform; leave it out")
    return tuple(sorted(values))


def _named(
    option: str, given: Mapping[str, Any], default: Sequence[str], get: Any, calibrated: bool
) -> tuple[str, ...]:
    values = _list(option, given.get(option, list(default)))
    for name in values:
        if get(name).calibrated and not calibrated:
            raise SupernetError(
                f"{option}: {name!r} needs calibration; give convert(…, calibration=BATCHES), or choose from "
                f"{', '.join(default)}"
            )
    return tuple(values)


def gene_name(dim: str, slot: int, choices: Choices) -> str:
    """Return the name of the gene that rules a block."""
    return dim if choices.uniform else f"{dim}.{slot}"


def experts_space(name: str, blocks: Sequence[Block], choices: Choices) -> SearchSpace:
    """Build the space; a dimension with one value has no gene.

    Genes: ``criterion``; ``keep.i``, ``op.i``, ``k.i``, ``top_p.i``, ``width.i`` of block i (without the number where
    all agree). ``op.i`` matters where not all experts are kept. No token can have more experts than are kept.

    Raises:
        SupernetError: Nothing is elastic.
    """
    full, block = blocks[0].n_experts, blocks[0]
    fewer = [v for v in choices.keep if v < full]
    slots = range(1 if choices.uniform else len(blocks))
    genes: list[Gene] = []
    forbidden: list[dict[str, Any]] = []
    if fewer and len(choices.criteria) > 1:
        keeps = [gene_name("keep", s, choices) for s in slots]
        when = {keeps[0]: fewer} if len(keeps) == 1 else {}
        genes.append(Gene("criterion", choices.criteria, "categorical", role="criterion", active_when=when))
        if len(keeps) > 1:  # where every expert is kept it does not matter: only the first one then
            forbidden.append({"criterion": choices.criteria[1:], **{k: [full] for k in keeps}})
    for slot in slots:
        layer = blocks[slot].layer
        keep, k = gene_name("keep", slot, choices), gene_name("k", slot, choices)
        if fewer:
            genes.append(Gene(keep, choices.keep, role="experts", layer=layer))
            if len(choices.operators) > 1:
                op = gene_name("op", slot, choices)
                genes.append(
                    Gene(op, choices.operators, "categorical", role="operator", layer=layer, active_when={keep: fewer})
                )
        for dim, values, role in (("k", choices.k, "top_k"), ("top_p", choices.top_p, "top_p")):
            if len(values) > 1:
                genes.append(Gene(gene_name(dim, slot, choices), values, role=role, layer=layer))
        if len(choices.width) > 1:
            genes.append(Gene(gene_name("width", slot, choices), choices.width, role="width", layer=layer))
        if len(choices.k) > 1:
            for value in choices.k:
                if short := [v for v in fewer if block.largest_k(v) < value]:
                    forbidden.append({keep: short, k: [value]})
    if not genes:
        raise SupernetError("every list has one value: nothing is elastic; give keep, k or width more values")
    return SearchSpace(f"experts-{name}", genes, forbidden)
