"""What works on this machine, and what to do about what does not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "busy", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: its state, what was seen, and what to do."""

    name: str
    state: State
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON data."""
        return asdict(self)


def examine() -> list[Finding]:
    """Check Python, packages, accelerators, measuring backends, Ray and the disk.

    Returns:
        Findings in a fixed order; ``missing`` is an option you do not have, ``busy`` would disturb
        measurements, ``broken`` stops nassearch.
    """
    return [_guarded(check) for check in (_python, _torch, _cuda, _onnx, _compile, _ray, _cpu, _disk)]


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a broken installation fails in any way: that is the finding
        name = check.__name__.strip("_")
        return Finding(name, "broken", f"{type(error).__name__}: {error}", f"reinstall what {name} needs")


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _torch() -> Finding:
    import torch

    with torch.inference_mode():
        torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))
    vision = importlib.metadata.version("torchvision")
    import torchvision  # noqa: F401 - a build for another torch fails here

    return Finding("PyTorch", "ok", f"{torch.__version__}, torchvision {vision}, {torch.get_num_threads()} threads")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("CUDA", "ok", ", ".join(names))
    built = torch.version.cuda
    detail = f"no usable GPU (PyTorch is built for CUDA {built})" if built else "PyTorch is a CPU build"
    fix = "nothing, if you mean to use the CPU; else check the driver with nvidia-smi"
    return Finding("CUDA", "missing", detail, fix)


def _onnx() -> Finding:
    needed = ("onnx", "onnxruntime", "onnxscript")
    absent = [n for n in needed if importlib.util.find_spec(n) is None]
    if absent:
        return Finding("ONNX", "missing", f"not installed: {', '.join(absent)}", "pip install 'nassearch[onnx]'")
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    return Finding("ONNX", "ok", f"onnxruntime {onnxruntime.__version__}, {providers}")


def _compile() -> Finding:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return Finding(
            "torch.compile", "missing", "no C++ compiler", "install g++ or clang++ to measure cpu:compile latencies"
        )
    return Finding("torch.compile", "ok", f"compiler {compiler}")


def _ray() -> Finding:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    token = "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").is_file()
    where = f", RAY_ADDRESS={address}" if address else ", local clusters"
    if address and not token:
        return Finding(
            "Ray",
            "missing",
            f"{ray.__version__}{where}, no token",
            "ray get-auth-token --generate; see docs/cluster.md",
        )
    return Finding("Ray", "ok", f"{ray.__version__}{where}")


def _cpu() -> Finding:
    count = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    detail = f"{count} cores, load {load:.1f}"
    if load > 0.5 * count:
        return Finding("CPU", "busy", detail, "stop other work before you measure latencies: it disturbs them")
    return Finding("CPU", "ok", detail)


def _disk() -> Finding:
    free_gb = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free_gb < 2:
        return Finding("disk", "broken", f"{free_gb:.1f} GB free for temporary files", "free some space or set TMPDIR")
    return Finding("disk", "ok", f"{free_gb:.0f} GB free for temporary files")
