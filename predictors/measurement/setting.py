"""What a latency was, or is to be, measured with. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from predictors.backends.registry import ALL_DTYPES, backend_entry, list_backends
from predictors.errors import InvalidSetting, UnknownBackend
from search_spaces.errors import did_you_mean

SYNTAX = (
    "[NAME=]device:backend[,batch=1][,threads=1][,dtype=float32][,resolution=R][,sequence=S][,phase=P][,experts=E]"
    "[,clock=cpu][,budget_ms=B][,resource=R]"
)
KEYS = ("batch", "threads", "dtype", "resolution", "sequence", "phase", "experts", "clock", "budget_ms", "resource")
METRIC = "latency_ms"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
MOST_THREADS = 1024
_COUNTS = ("batch", "threads", "resolution", "sequence", "budget_ms")


@dataclass(frozen=True)
class LatencySetting:
    """Device, backend and shapes of a latency figure.

    Example:
        >>> setting = LatencySetting.parse("xeon=cpu:onnxruntime,threads=2")
        >>> setting.metric, setting.batch
        ('latency_ms@xeon', 1)

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        backend: A registered backend, e.g. ``"eager"``.
        batch: Inputs per inference.
        threads: Intra-op threads of the CPU.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        resolution: Height and width of images in pixels, where it is not the architecture's own.
        sequence: Length of sequences in tokens, where it is not the architecture's own.
        phase: Part of an inference, where the network has several: ``"prefill"`` or ``"decode"``.
        experts: How the experts of a Mixture-of-Experts network are computed, where that can be chosen.
        clock: ``"cpu"`` counts the processor time of the one thread, without its waiting while other work runs.
            Default: the time on the wall.
        budget_ms: Time for one measurement in ms, where it is not the default.
        resource: Ray resource of the nodes that measure it, where that is not the run's own.
        name: Tells several settings of a run apart, as in ``latency_ms@NAME``.

    Raises:
        InvalidSetting: Something is wrong; the message lists everything that is.
    """

    device: str = "cpu"
    backend: str = "eager"
    batch: int = 1
    threads: int = 1
    dtype: str = "float32"
    resolution: int | None = None
    sequence: int | None = None
    phase: str | None = None
    experts: str | None = None
    clock: str | None = None
    budget_ms: int | None = None
    resource: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        faults = _faults(asdict(self))
        if faults:
            raise InvalidSetting(str(self), faults)

    @classmethod
    def parse(cls, text: str) -> LatencySetting:
        """Read ``[NAME=]device:backend[,key=value]...``; ``device`` alone means its eager backend.

        Raises:
            InvalidSetting: The text is malformed; the message lists all faults.
        """
        head, *options = [part.strip() for part in text.split(",")]
        faults: list[str] = []
        values: dict[str, Any] = {}
        if "=" in head:
            name, head = (part.strip() for part in head.split("=", 1))
            values["name"] = name
            if name in KEYS:
                faults.append(f"{name}= comes after the device and backend; write {SYNTAX}")
        device, backend = _split_head(head)
        if not head:
            faults.append(f"no device is given; write {SYNTAX}")
        else:
            values["device"] = device
            values["backend"] = backend or "eager"
            if head.endswith(":"):
                faults.append(f"no backend after {head!r}; allowed: {', '.join(list_backends())}")
        for option in options:
            key, equals, value = (part.strip() for part in option.partition("="))
            if not equals or not value:
                faults.append(f"{option!r} is not key=value; allowed keys: {', '.join(KEYS)}")
            elif key not in KEYS:
                faults.append(f"unknown key {key!r}{did_you_mean(key, KEYS)}; allowed keys: {', '.join(KEYS)}")
            elif key in values:
                faults.append(f"{key} is given twice")
            else:
                values[key] = int(value) if key in _COUNTS and re.fullmatch(r"[0-9]{1,12}", value) else value
        faults += _faults(values)
        if faults:
            raise InvalidSetting(text, faults)
        return cls(**values)

    def __str__(self) -> str:
        """Return the text that `parse` reads back to an equal setting."""
        options = {key: getattr(self, key) for key in KEYS}
        listed = "".join(f",{key}={value}" for key, value in options.items() if value is not None)
        return f"{self.name + '=' if self.name else ''}{self.device}:{self.backend}{listed}"

    @property
    def metric(self) -> str:
        """Name of the metric: ``latency_ms``, or ``latency_ms@NAME`` for a named setting."""
        return f"{METRIC}@{self.name}" if self.name else METRIC

    @property
    def device_type(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return self.device.partition(":")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON values."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatencySetting:
        """Rebuild a setting from `to_json`.

        Raises:
            InvalidSetting: An unknown field, or a value that is not allowed.
        """
        allowed = [f.name for f in fields(cls)]
        unknown = [f"unknown field {k!r}{did_you_mean(k, allowed)}; allowed: {', '.join(allowed)}" for k in data]
        unknown = [message for key, message in zip(data, unknown, strict=True) if key not in allowed]
        if unknown:
            raise InvalidSetting(str(dict(data)), unknown)
        return cls(**data)


def _split_head(head: str) -> tuple[str, str]:
    """Split ``cuda:1:eager`` into device and backend; a device alone has no backend."""
    if _DEVICE.fullmatch(head):
        return head, ""
    device, _, backend = head.rpartition(":")
    return (device, backend) if device else (head, "")


def _faults(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the given fields; those not given are not looked at."""
    faults: list[str] = []
    name, device, backend = values.get("name"), values.get("device"), values.get("backend")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        faults.append(f"the name {name!r} must be a letter, then letters, digits, '_', '-' or '.'")
    resource = values.get("resource")
    if resource is not None and not (isinstance(resource, str) and _NAME.fullmatch(resource)):
        faults.append(f"the resource {resource!r} must be a letter, then letters, digits, '_', '-' or '.'")
    for key in ("phase", "experts"):
        word = values.get(key)
        if word is not None and not (isinstance(word, str) and _NAME.fullmatch(word)):
            faults.append(f"{key}={word} must be a letter, then letters, digits, '_', '-' or '.'")
    faults += _clock_faults(values)
    known_device = device is None or (isinstance(device, str) and _DEVICE.fullmatch(device) is not None)
    if not known_device:
        hint = f"; did you mean 'cpu:{device}'?" if device in list_backends() else did_you_mean(device, ["cpu", "cuda"])
        faults.append(f"unknown device {device!r}{hint}; allowed: cpu, cuda, cuda:N")
    entry = None
    if backend is not None:
        try:
            entry = backend_entry(str(backend))
        except UnknownBackend as e:
            faults.append(str(e))
    kind = str(device).partition(":")[0]
    if entry and device is not None and known_device and kind not in entry.devices:
        fitting = [b for b in list_backends() if kind in backend_entry(b).devices]
        faults.append(f"backend {backend!r} does not run on {kind}; allowed there: {', '.join(fitting)}")
    for key in _COUNTS:
        value = values.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            faults.append(f"{key}={value} must be a whole number of at least 1")
        elif key == "threads" and value is not None and value > MOST_THREADS:
            faults.append(f"threads={value} is more than any machine has; at most {MOST_THREADS}")
    for key in ("batch", "threads"):
        if key in values and values[key] is None:
            faults.append(f"{key} must be given")
    dtype = values.get("dtype", "float32")
    if dtype not in ALL_DTYPES:
        near = did_you_mean(dtype, ALL_DTYPES)
        faults.append(f"unknown dtype {dtype!r}{near}; allowed: {', '.join(ALL_DTYPES)}")
    elif entry and dtype not in entry.dtypes:
        faults.append(f"backend {backend!r} does not run {dtype}; allowed there: {', '.join(entry.dtypes)}")
    return faults


def _clock_faults(values: Mapping[str, Any]) -> list[str]:
    clock = values.get("clock")
    if clock is None:
        return []
    if clock != "cpu":
        return [f"unknown clock {clock!r}; allowed: cpu (without it, the time on the wall)"]
    faults = []
    if str(values.get("device", "cpu")) != "cpu":
        faults.append("clock=cpu does not see what a GPU does; leave it out")
    if values.get("threads", 1) != 1:
        faults.append("clock=cpu is of one thread: the times of several would add up; give threads=1, or leave it out")
    return faults
