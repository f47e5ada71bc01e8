"""Which machine a figure comes from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictors.errors import MeasurementError

if TYPE_CHECKING:
    from predictors.measurement.setting import LatencySetting

CPUINFO = Path("/proc/cpuinfo")
_NO_MATTER_FOR_TIMING = {"os"}


@dataclass(frozen=True)
class DeviceIdentity:
    """The parts of a machine that a figure depends on. Figures of different identities never mix.

    Attributes:
        device: Kind of device, ``"cpu"`` or ``"cuda"``.
        cpu: Model name of the CPU.
        cores: Logical CPUs of the machine.
        usable_cores: Logical CPUs that this process may use.
        threads: Intra-op threads of the measurement.
        machine: Architecture, e.g. ``"x86_64"``.
        system: E.g. ``"Linux"``.
        os: Version of the system, for the reader.
        torch: Version of PyTorch.
        onnxruntime: Version of ONNX Runtime where it runs the module.
        gpu: Name of the GPU where it runs the module.
        cuda: CUDA version of PyTorch where a GPU runs the module.
    """

    device: str
    cpu: str
    cores: int
    usable_cores: int
    threads: int
    machine: str
    system: str
    os: str
    torch: str
    onnxruntime: str | None = None
    gpu: str | None = None
    cuda: str | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of 16 hex digits, equal where timings are comparable."""
        parts = {k: v for k, v in asdict(self).items() if k not in _NO_MATTER_FOR_TIMING}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        """Return one line for reports, e.g. ``AMD EPYC, 1 thread, torch 2.6.0``."""
        where = f"{self.gpu}, CUDA {self.cuda}" if self.gpu else self.cpu
        runtime = f", onnxruntime {self.onnxruntime}" if self.onnxruntime else ""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{where}, {threads}, torch {self.torch}{runtime}"

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the fingerprint, as JSON values."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeviceIdentity:
        """Rebuild an identity from `to_json`."""
        names = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in names})


def describe_device(setting: LatencySetting) -> DeviceIdentity:
    """Return the identity of this machine for a setting.

    Raises:
        MeasurementError: The setting names a GPU that is not here.
    """
    return _describe(setting.device, setting.threads, setting.backend == "onnxruntime")


@cache
def _describe(device: str, threads: int, with_onnxruntime: bool) -> DeviceIdentity:
    gpu, cuda = _gpu(device) if device.startswith("cuda") else (None, None)
    return DeviceIdentity(
        device=device.partition(":")[0],
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        threads=threads,
        machine=platform.machine(),
        system=platform.system(),
        os=platform.platform(),
        torch=_version("torch") or "unknown",
        onnxruntime=_version("onnxruntime") if with_onnxruntime else None,
        gpu=gpu,
        cuda=cuda,
    )


def _gpu(device: str) -> tuple[str, str | None]:
    import torch

    if not torch.cuda.is_available():
        raise MeasurementError(f"{device!r} is not here: no CUDA device is visible; check `nvidia-smi`, or use 'cpu'")
    return torch.cuda.get_device_name(torch.device(device)), torch.version.cuda


def cpu_model() -> str:
    """Return the model name of the CPU, or the nearest thing that the system tells."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for key in ("model name", "Model", "Hardware", "cpu model", "uarch"):
        if found := re.search(rf"^{key}\s*:\s*(\S.*)$", text, re.MULTILINE):
            return found.group(1).strip()
    implementer, part = (re.search(rf"^CPU {k}\s*:\s*(\S+)$", text, re.MULTILINE) for k in ("implementer", "part"))
    if implementer and part:
        return f"{platform.machine()} implementer {implementer.group(1)} part {part.group(1)}"
    return _mac_cpu_model() or platform.processor() or platform.machine() or "unknown"


def _mac_cpu_model() -> str:
    if platform.system() != "Darwin":
        return ""
    try:
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def usable_cores() -> int:
    """Return how many logical CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
