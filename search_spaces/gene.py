"""One elastic dimension of a search space."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from search_spaces.errors import SearchSpaceError

Value: TypeAlias = int | float | str | bool
Kind = Literal["ordinal", "categorical"]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _condition_to_json(condition: Mapping[str, frozenset[Value]]) -> dict[str, list[Value]]:
    return {k: sorted(v, key=lambda x: (str(type(x)), x)) for k, v in sorted(condition.items())}


@dataclass(frozen=True)
class Gene:
    """One elastic dimension: what it may be, when it matters and which of its values are the same network.

    Args:
        name: Unique in the space. ``"prefix.3"`` makes it member 3 of the group ``prefix`` (see
            `SearchSpace.encode`).
        choices: The allowed values, distinct JSON scalars. Their order is the order of the choice indices.
        kind: ``"ordinal"`` when the values are numbers whose size means something (predictors then see the
            number as well), else ``"categorical"``.
        largest: Value in the largest network. Default: the greatest number, or the first choice of a
            categorical gene.
        smallest: Value in the smallest network. Default: the smallest number, or the first choice.
        role: What the gene does (``"depth"``, ``"kernel"``, ``"width"``, …), for strategies that treat
            genes of one role alike without knowing the family.
        layer: The layer that the gene belongs to, where it belongs to one.
        active_when: Controlling gene name -> its values under which this gene matters (all must hold, and
            the controlling genes must be active themselves). Default: always active.
        active_if_any: Conditions like ``active_when``, of which one at least must hold beside it: for a gene that
            matters as soon as one of several others makes use of it. Default: none is needed.
        aliases: Value -> other value of this gene that means the same network. The canonical form of a
            group of aliases is its member that comes first in ``choices``.

    Raises:
        SearchSpaceError: An empty or repeated choice, a value that is not among the choices, a gene that
            controls itself, an ordinal gene with values that are no numbers.
    """

    name: str
    choices: tuple[Value, ...]
    kind: Kind = "ordinal"
    largest: Value | None = None
    smallest: Value | None = None
    role: str | None = None
    layer: int | None = None
    active_when: Mapping[str, frozenset[Value]] = field(default_factory=dict)
    active_if_any: tuple[Mapping[str, frozenset[Value]], ...] = ()
    aliases: Mapping[Value, Value] = field(default_factory=dict)

    def __init__(
        self,
        name: str,
        choices: Collection[Value],
        kind: Kind = "ordinal",
        *,
        largest: Value | None = None,
        smallest: Value | None = None,
        role: str | None = None,
        layer: int | None = None,
        active_when: Mapping[str, Collection[Value]] | None = None,
        active_if_any: Iterable[Mapping[str, Collection[Value]]] = (),
        aliases: Mapping[Value, Value] | None = None,
    ) -> None:
        values = tuple(choices)
        set_field = object.__setattr__
        set_field(self, "name", name)
        set_field(self, "choices", values)
        set_field(self, "kind", kind)
        set_field(self, "role", role)
        set_field(self, "layer", layer)
        set_field(self, "active_when", {k: frozenset(v) for k, v in (active_when or {}).items()})
        alternatives = tuple({k: frozenset(v) for k, v in c.items()} for c in active_if_any)
        set_field(self, "active_if_any", alternatives)
        set_field(self, "aliases", dict(aliases or {}))
        self._check()
        ordered = sorted(values) if kind == "ordinal" else None
        set_field(self, "largest", largest if largest is not None else (ordered[-1] if ordered else values[0]))
        set_field(self, "smallest", smallest if smallest is not None else (ordered[0] if ordered else values[0]))
        for label in ("largest", "smallest"):
            self.index(getattr(self, label), what=f"its {label} value")

    def __hash__(self) -> int:
        return hash((self.name, self.choices, self.kind))

    def _check(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise SearchSpaceError(f"a gene needs a name that is a non-empty string, got {self.name!r}")
        if self.kind not in get_args(Kind):
            raise SearchSpaceError(
                f"gene {self.name!r}: kind {self.kind!r} is not allowed; choose from {list(get_args(Kind))}"
            )
        if not self.choices:
            raise SearchSpaceError(f"gene {self.name!r} has no choices; give at least one value")
        if len({(type(v), v) for v in self.choices}) != len(self.choices) or len(set(self.choices)) != len(
            self.choices
        ):
            raise SearchSpaceError(f"gene {self.name!r} repeats a choice in {list(self.choices)}; values must differ")
        for value in self.choices:
            if not isinstance(value, int | float | str):
                raise SearchSpaceError(f"gene {self.name!r}: choice {value!r} is neither a number nor a string")
        if self.kind == "ordinal" and not all(_is_number(v) for v in self.choices):
            raise SearchSpaceError(
                f'gene {self.name!r} is ordinal but {list(self.choices)} are not all numbers; use kind="categorical"'
            )
        if any(self.name in c for c in (self.active_when, *self.active_if_any)):
            raise SearchSpaceError(f"gene {self.name!r} cannot be active_when itself")
        if not all(self.active_if_any):
            raise SearchSpaceError(f"gene {self.name!r}: a condition of active_if_any names no gene; leave it out")
        for a, b in self.aliases.items():
            self.index(a, what="an alias")
            self.index(b, what="an alias")

    def index(self, value: Any, what: str = "the value") -> int:
        """Return the choice index of ``value``.

        Raises:
            SearchSpaceError: ``value`` is not one of the choices.
        """
        for i, choice in enumerate(self.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return i
        raise SearchSpaceError(f"gene {self.name!r}: {what} {value!r} is not among its choices {list(self.choices)}")

    def canonical_indices(self) -> list[int]:
        """Return for each choice the index of the first choice that means the same network."""
        root = list(range(len(self.choices)))

        def find(i: int) -> int:
            while root[i] != i:
                i = root[i]
            return i

        for a, b in self.aliases.items():
            low, high = sorted((find(self.index(a)), find(self.index(b))))
            root[high] = low
        return [find(i) for i in range(len(self.choices))]

    def to_json(self) -> dict[str, Any]:
        """Return the gene as JSON data; fields at their defaults are left out."""
        data: dict[str, Any] = {"name": self.name, "choices": list(self.choices), "kind": self.kind}
        data["largest"], data["smallest"] = self.largest, self.smallest
        if self.role is not None:
            data["role"] = self.role
        if self.layer is not None:
            data["layer"] = self.layer
        if self.active_when:
            data["active_when"] = _condition_to_json(self.active_when)
        if self.active_if_any:
            data["active_if_any"] = [_condition_to_json(c) for c in self.active_if_any]
        if self.aliases:
            data["aliases"] = [[a, b] for a, b in self.aliases.items()]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Gene:
        """Rebuild a gene from `to_json`.

        Raises:
            SearchSpaceError: A field is missing or unknown.
        """
        fields = dict(data)
        unknown = set(fields) - {
            "name", "choices", "kind", "largest", "smallest", "role", "layer", "active_when", "active_if_any",
            "aliases",
        }  # fmt: skip
        if unknown or not {"name", "choices"} <= set(fields):
            raise SearchSpaceError(f"not a gene: {data!r}; it needs 'name' and 'choices', unknown: {sorted(unknown)}")
        fields["aliases"] = dict(fields.get("aliases", []))
        return cls(fields.pop("name"), fields.pop("choices"), fields.pop("kind", "ordinal"), **fields)
