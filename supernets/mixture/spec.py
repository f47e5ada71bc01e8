"""What a mixture is made of, checked, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from search_spaces.errors import did_you_mean
from supernets.errors import SupernetError
from supernets.mixture.encoding import list_encodings

KINDS = ("none", "layer", "neuron")
INITS = ("copies", "independent")


@dataclass(frozen=True)
class MixtureSpec:
    """How the weights of a supernet are mixed from experts.

    Args:
        kind: ``"layer"``: one coefficient per expert and block; ``"neuron"``: one per expert and output neuron.
        experts: Number of experts, the layer's own weight included; 1 is a plain supernet with more steps.
        encoding: What the routers see of an architecture, one of `list_encodings`.
        hidden: Hidden units of each router.
        temperature: What logits are divided by; below 1 the coefficients of different architectures lie further apart.
        top_k: How many experts of a row are mixed. Default: all. Fewer need copies without noise or independent
            experts: at the largest architecture, where routers start balanced, rounding says which of them are mixed.
        init: ``"copies"`` of the layer's weight, with noise; or ``"independent"`` weights of the same spread.
        noise: Of copies, relative to the root mean square of the tensor. It adds up to zero over the experts, and
            routers start balanced at the largest architecture, which so keeps its function to rounding; 0 keeps it
            bit for bit, but then no router learns before the experts differ.

    Raises:
        SupernetError: A value that is not allowed.
    """

    kind: str
    experts: int = 2
    encoding: str = "fine"
    hidden: int = 128
    temperature: float = 1.0
    top_k: int | None = None
    init: str = "copies"
    noise: float = 0.1

    def __post_init__(self) -> None:
        faults = []
        if self.kind not in KINDS[1:]:
            faults.append(f"mixture must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.encoding not in list_encodings():
            near = did_you_mean(str(self.encoding), list_encodings())
            faults.append(f"encoding must be one of {', '.join(list_encodings())}, got {self.encoding!r}{near}")
        if self.init not in INITS:
            faults.append(f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        for name, most in (("experts", 64), ("hidden", 65536)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                faults.append(f"{name} must be an integer from 1 to {most}, got {value!r}")
        if self.top_k is not None and (
            isinstance(self.top_k, bool)
            or not isinstance(self.top_k, int)
            or not isinstance(self.experts, int)
            or not 1 <= self.top_k <= self.experts
        ):
            faults.append(f"top_k must be an integer from 1 to the number of experts, got {self.top_k!r}")
        if not _number(self.temperature) or not 1e-3 <= self.temperature <= 1e3:
            faults.append(f"temperature must be a number from 0.001 to 1000, got {self.temperature!r}")
        if not _number(self.noise) or not 0 <= self.noise <= 10:
            faults.append(f"noise must be a number from 0 to 10, got {self.noise!r}")
        if not faults and self.top_k not in (None, self.experts) and self.init == "copies" and self.noise > 0:
            faults.append(
                f"top_k={self.top_k} of {self.experts} experts would lose the original: the noise of copies adds up to "
                "zero over all of them; give noise=0 or init='independent', or leave top_k out"
            )
        if faults:
            raise SupernetError("; ".join(faults))

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MixtureSpec:
        """Rebuild a specification from `to_json`.

        Raises:
            SupernetError: The data is not one.
        """
        allowed = [f.name for f in fields(cls)]
        unknown = sorted(set(data) - set(allowed)) if isinstance(data, Mapping) else []
        if not isinstance(data, Mapping) or "kind" not in data or unknown:
            raise SupernetError(f"not a mixture: {data!r}; allowed: {', '.join(allowed)}, kind is needed")
        return cls(**data)


def mixture_spec(
    mixture: str | None, experts: int | None, options: Mapping[str, Any] | None, *, init: str
) -> MixtureSpec | None:
    """Return the specification that a user's options say; None for a plain supernet.

    Args:
        mixture: ``"none"`` (or None), ``"layer"`` or ``"neuron"``.
        experts: Number of experts. Default: 2.
        options: Other arguments of `MixtureSpec`.
        init: How experts start unless the options say otherwise.

    Raises:
        SupernetError: Options without a mixture, or one that is not allowed.
    """
    if mixture is None or mixture == "none":
        if experts is not None or options:
            raise SupernetError("experts and mixture_options belong to a mixture: give mixture='layer' or 'neuron' too")
        return None
    given = {} if options is None else options
    allowed = [f.name for f in fields(MixtureSpec) if f.name not in ("kind", "experts")]
    if not isinstance(given, Mapping):
        raise SupernetError(f"mixture_options must be a mapping with keys of {', '.join(allowed)}, got {given!r}")
    for name in given:
        if name not in allowed:
            near = did_you_mean(str(name), allowed)
            raise SupernetError(f"a mixture has no option {name!r}{near}; allowed: {', '.join(allowed)}")
    return MixtureSpec(kind=mixture, experts=2 if experts is None else experts, **{"init": init, **given})


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
