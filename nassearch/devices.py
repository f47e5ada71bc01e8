"""Which device measured what: figures of different devices never mix in a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nassearch.errors import EvaluationError

if TYPE_CHECKING:
    from nassearch.store import Store

_META = "devices"


@dataclass(frozen=True)
class Device:
    """What measured a metric.

    Attributes:
        fingerprint: Equal where figures are comparable.
        name: What to call it in messages.
    """

    fingerprint: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})"


def devices_of(facts: Mapping[str, Any]) -> dict[str, Device]:
    """Return the device of each metric that has one in the ``device`` facts of an evaluation."""
    found = {}
    for metric, said in facts.items():
        if isinstance(said, Mapping) and (device := next(_devices(said), None)):
            found[metric] = device
    return found


def _devices(facts: Mapping[str, Any]) -> Iterator[Device]:
    """Yield every description with a ``fingerprint``, from the outside in."""
    if "fingerprint" in facts:
        yield Device(str(facts["fingerprint"]), str(facts.get("gpu") or facts.get("cpu") or "?"))
    for inner in facts.values():
        if isinstance(inner, Mapping):
            yield from _devices(inner)


class KnownDevices:
    """The device of each measured metric of a run: the first one decides, others are refused.

    Args:
        devices: Those known already.
    """

    def __init__(self, devices: Mapping[str, Device] | None = None) -> None:
        self._known = dict(devices or {})

    @classmethod
    def of_store(cls, store: Store) -> KnownDevices:
        """Return the devices that measured the bounds and the evaluations in a store."""
        known = cls({m: Device(**said) for m, said in (store.meta(_META) or {}).items()})
        for outcome in store.outcomes().values():
            known._known = devices_of(outcome.device) | known._known
        return known

    def save(self, store: Store) -> None:
        """Write them into a store."""
        store.set_meta(_META, {m: {"fingerprint": d.fingerprint, "name": d.name} for m, d in self._known.items()})

    @property
    def fingerprints(self) -> dict[str, str]:
        """Metric -> fingerprint."""
        return {metric: device.fingerprint for metric, device in self._known.items()}

    def check(self, facts: Mapping[str, Any]) -> None:
        """Check the ``device`` facts of an evaluation, and note metrics that are measured for the first time.

        Raises:
            EvaluationError: A metric was measured on another device than before.
        """
        for metric, found in devices_of(facts).items():
            known = self._known.setdefault(metric, found)
            if known.fingerprint != found.fingerprint:
                raise EvaluationError(
                    f"{metric} was measured on {known} before and would now be on {found}; figures of different "
                    "devices never mix. Go on where the run was started, or start a new run here"
                )
