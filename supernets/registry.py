"""Supernets by name: families, their named sizes, and adapters for pre-trained models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from os import PathLike
from typing import Any, Protocol, TypeVar

from torch import nn

from search_spaces.errors import did_you_mean
from supernets.base import Supernet
from supernets.errors import SupernetError, UnknownFamily, UnsupportedModel
from supernets.mixture.spec import MixtureSpec, mixture_spec

Builder = Callable[..., Supernet]
B = TypeVar("B", bound=Builder)
S = TypeVar("S", bound=type[Supernet])


AUTO = "auto"
"""The space name of whatever adapter supports a model."""


class Adapter(Protocol):
    """Turns one kind of pre-trained model into a supernet.

    An adapter that makes another kind of space of its models than ``auto`` has an attribute ``space``, the name under
    which users ask for it, e.g. ``"experts"``; without one it serves `AUTO`. ``calibrated = True`` says that `convert`
    takes batches as ``calibration``; ``trained = False`` that its subnets are good without any training.
    """

    @property
    def description(self) -> str:
        """What it supports, for the error message, e.g. ``"transformers.BertForSequenceClassification"``."""

    def supports(self, model: nn.Module) -> bool:
        """Return whether `convert` handles this model."""

    def convert(self, model: nn.Module, **choices: Any) -> Supernet:
        """Return the elastic twin; its largest subnet equals the model."""


_SIZES: dict[str, Builder] = {}
_FAMILIES: dict[str, type[Supernet]] = {}
_ADAPTERS: list[Adapter] = []


def register_supernet(name: str) -> Callable[[B], B]:
    """Register a function that builds a supernet of a named size; its keyword arguments are the options.

    Args:
        name: The name users give, e.g. ``"mobilenetv3-tiny"``.

    Raises:
        SupernetError: The name is taken.
    """

    def register(builder: B) -> B:
        if name in _SIZES:
            raise SupernetError(f"a supernet named {name!r} is registered already; choose another name")
        _SIZES[name] = builder
        return builder

    return register


def register_family(cls: S) -> S:
    """Register a supernet class under its ``family``, so that saved supernets of it can be loaded.

    Raises:
        SupernetError: Another class has the name.
    """
    other = _FAMILIES.get(cls.family)
    if other is not None and other is not cls:
        raise SupernetError(f"supernet family {cls.family!r} is registered already by {other.__name__}")
    _FAMILIES[cls.family] = cls
    return cls


def register_adapter(adapter: Adapter) -> Adapter:
    """Add an adapter to those that `convert` tries, after the earlier ones."""
    _ADAPTERS.append(adapter)
    return adapter


def list_supernets(pattern: str = "*") -> list[str]:
    """Return the named sizes that match a shell-style pattern, sorted."""
    return sorted(n for n in _SIZES if fnmatch(n, pattern))


def supernet_options(name: str) -> dict[str, Any]:
    """Return the options of a named size and their defaults (``inspect.Parameter.empty`` where required).

    Raises:
        UnknownFamily: There is no such size.
    """
    return {p.name: p.default for p in inspect.signature(_builder(name)).parameters.values()}


def _builder(name: str) -> Builder:
    if name not in _SIZES:
        near = did_you_mean(name, _SIZES)
        raise UnknownFamily(f"unknown supernet {name!r}{near}; available: {', '.join(list_supernets())}")
    return _SIZES[name]


def build(
    name: str,
    *,
    checkpoint: str | PathLike[str] | None = None,
    mixture: str | None = None,
    experts: int | None = None,
    mixture_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Supernet:
    """Build a supernet of a named size.

    Args:
        name: One of `list_supernets`.
        checkpoint: A weights file in the published format of the family, where it has one. Default: random
            weights, from torch's global generator.
        mixture: ``"layer"`` or ``"neuron"``: weights are mixtures of experts, see `supernets.mixture`. Default: plain.
        experts: Number of experts. Default: 2.
        mixture_options: Other arguments of `supernets.mixture.MixtureSpec`. Experts are independent by default, or
            copies where there is a checkpoint.
        **options: The options of the size, e.g. ``num_classes``.

    Raises:
        UnknownFamily: The name is not registered; the message suggests the nearest.
        SupernetError: An option that the size does not have, or a mixture where the family has no layers for it.
        CheckpointError: The checkpoint cannot be read or does not fit.

    Example:
        >>> build("mobilenetv3-tiny", num_classes=10).space.name
        'mobilenetv3-tiny'
    """
    builder = _builder(name)
    spec = mixture_spec(mixture, experts, mixture_options, init="independent" if checkpoint is None else "copies")
    if checkpoint is not None:
        options["checkpoint"] = checkpoint
    allowed = supernet_options(name)
    for option in options:
        if option not in allowed:
            raise SupernetError(
                f"supernet {name!r} has no option {option!r}{did_you_mean(option, allowed)}; "
                f"allowed: {', '.join(sorted(allowed))}"
            )
    return _mixed(builder(**options), spec)


def _mixed(net: Supernet, spec: MixtureSpec | None) -> Supernet:
    if spec is not None:
        net.mix(spec)
    return net


def build_family(family: str, config: dict[str, Any]) -> Supernet:
    """Rebuild a supernet, with random weights, from its family and `Supernet.config`.

    Raises:
        UnknownFamily: The family is not registered.
        SupernetError: The configuration is not one of the family.
    """
    if family not in _FAMILIES:
        near = did_you_mean(family, _FAMILIES)
        raise UnknownFamily(f"unknown supernet family {family!r}{near}; available: {', '.join(sorted(_FAMILIES))}")
    plain = {key: value for key, value in config.items() if key != "mixture"}
    spec = MixtureSpec.from_json(config["mixture"]) if "mixture" in config else None
    return _mixed(_FAMILIES[family].from_config(plain), spec)


def families_with_blocks() -> list[str]:
    """Return the families whose networks can be measured block by block, sorted."""
    return sorted(name for name, cls in _FAMILIES.items() if cls.block_slots is not Supernet.block_slots)


def observing_family(metric: str) -> type[Supernet] | None:
    """Return a family that has a metric of `Supernet.observe` of that name before the first dot, if any has."""
    word = metric.partition(".")[0]
    return next((c for c in _FAMILIES.values() if word in {u.partition(".")[0] for u in c.behaviours()}), None)


def conversion_spaces() -> list[str]:
    """Return the space names that stand for a converted model, `AUTO` first."""
    return list(dict.fromkeys([AUTO, *sorted(_space_of(a) for a in _ADAPTERS)]))


def _space_of(adapter: Adapter) -> str:
    return str(getattr(adapter, "space", AUTO))


def wants_calibration(model: nn.Module, space: str = AUTO) -> bool:
    """Return whether `convert` of a model takes ``calibration``: batches to gather statistics from."""
    return bool(getattr(_adapter_of(model, space), "calibrated", False))


def wants_training(space: str) -> bool:
    """Return whether supernets of a conversion space are trained where the user says nothing of it."""
    return all(getattr(a, "trained", True) for a in _ADAPTERS if _space_of(a) == space)


def _adapter_of(model: nn.Module, space: str) -> Adapter | None:
    return next((a for a in _ADAPTERS if space in (AUTO, _space_of(a)) and a.supports(model)), None)


def convert(
    model: nn.Module,
    *,
    space: str = AUTO,
    mixture: str | None = None,
    experts: int | None = None,
    mixture_options: Mapping[str, Any] | None = None,
    **choices: Any,
) -> Supernet:
    """Turn a pre-trained model into a supernet whose largest subnet equals it.

    Args:
        model: The model, in eval mode or not; not changed.
        space: Which kind of space, one of `conversion_spaces`: only its adapters are tried, for `AUTO` all of them.
        mixture: ``"layer"`` or ``"neuron"``: weights are mixtures of experts, see `supernets.mixture`. Default: plain.
        experts: Number of experts. Default: 2.
        mixture_options: Other arguments of `supernets.mixture.MixtureSpec`. Experts are copies by default, with a
            little noise that the largest subnet does not see.
        **choices: What to make elastic, as the adapter documents.

    Raises:
        UnsupportedModel: No adapter handles the model; the message lists what is supported.
        SupernetError: Choices that the adapter does not have, or that do not suit the model, or a mixture where the
            family has no layers for it.
    """
    spec = mixture_spec(mixture, experts, mixture_options, init="copies")
    adapter = _adapter_of(model, space)
    if adapter is not None:
        return _mixed(adapter.convert(model, **choices), spec)
    adapters = [a for a in _ADAPTERS if space in (AUTO, _space_of(a))]
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    supported = ", ".join(a.description for a in adapters) or "no model yet"
    what = "" if space == AUTO else f" for space {space!r}"
    raise UnsupportedModel(
        f"cannot convert a {kind}{what}; supported: {supported}. A named supernet can be built instead: "
        f"build(name) with one of {', '.join(list_supernets())}; or add support as docs/user-guide/adapters.md shows"
    )
