"""How many experts each layer keeps, by a rule for all layers together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supernets.errors import SupernetError
from supernets.experts.operators.m_smoe import groups_per_layer

if TYPE_CHECKING:
    from supernets.experts.supernet import ExpertSupernet


def threshold_architecture(net: ExpertSupernet, average: float, operator: str = "m-smoe") -> dict[str, Any]:
    """Return the architecture that M-SMoE publishes: a common threshold of usage decides the groups of each layer.

    See `supernets.experts.operators.m_smoe.groups_per_layer`; the order is by ``frequency`` where the space has that
    criterion. Counts that the space lacks become the nearest it has; all other genes are the largest network's.

    Args:
        net: A calibrated supernet whose layers may differ.
        average: Groups of a layer, on average.
        operator: One of the space's operators.

    Raises:
        SupernetError: No calibration, layers that must agree, or an operator that the space has not.
    """
    if not net.calibrated or net.choices.uniform or operator not in net.choices.operators:
        raise SupernetError(
            "a common threshold needs a calibrated supernet, layers that may differ, and one of its operators "
            f"({', '.join(net.choices.operators)}); got operator {operator!r}, calibrated={net.calibrated}, "
            f"uniform={net.choices.uniform}"
        )
    statistics: Any = list(net.statistics)
    counts = groups_per_layer([s.frequencies() for s in statistics], average)
    arch = net.space.decode(net.space.largest[None])[0]
    genes = {g.name: g for g in net.space.genes}
    for slot, count in enumerate(counts):
        if f"keep.{slot}" in genes:
            choices: Any = genes[f"keep.{slot}"].choices
            arch[f"keep.{slot}"] = min(choices, key=lambda v: (abs(v - count), v))
        if f"op.{slot}" in genes:
            arch[f"op.{slot}"] = operator
        if f"k.{slot}" in genes:  # no more than the router can find
            keep: Any = arch.get(f"keep.{slot}", net.blocks[slot].n_experts)
            largest = net.blocks[slot].largest_k(keep)
            arch[f"k.{slot}"] = max(v for v in net.choices.k if v <= max(largest, min(net.choices.k)))
    if "criterion" in genes and "frequency" in net.choices.criteria:
        arch["criterion"] = "frequency"
    return net.space.decode(net.space.encode([arch]))[0]
