"""Once-for-All MobileNetV3 (Cai et al., 2020, arXiv:1908.09791): a published accuracy model and a phone's table."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.bench.npz import need_folder, read_arrays
from nassearch.bench.registry import register_reader
from nassearch.bench.tables import KnownFront, Table
from nassearch.errors import ConfigError, DataError
from nassearch.objectives import Objective
from search_spaces import Rows, get_space

Values = NDArray[np.float64]

_FILES = ("ofa_acc_predictor.npz", "note10_lut.json.gz", "reference_front.npz")
_RESOLUTIONS = (160, 176, 192, 208, 224)  # those that both the accuracy model and the latency table know
_FIRST_RESOLUTION, _RESOLUTION_STEP, _N_RESOLUTIONS = 112, 16, 8
_SLOTS, _KERNELS, _EXPANDS = 20, (3, 5, 7), (3, 4, 6)
_STAGES = ((32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1))
"""Width, stride, squeeze-and-excite and h-swish of each stage of the net of width 1.2."""


class OfaMobileNetV3(Table):
    """Top-1 by the published accuracy model, latency as the sum of a phone's measured blocks, parameters exactly.

    Args:
        folder: Folder of the files.
        resolution: Input size in pixels.

    Raises:
        DataError: A file is missing or malformed.
    """

    def __init__(self, folder: Path, resolution: int = 224) -> None:
        need_folder(folder, _FILES)
        self.name = f"ofa-mobilenetv3-{resolution}"
        self.space = get_space("ofa-mobilenetv3-w1.2")
        self.metrics = ("top1", "latency_ms", "params_m")
        self.analytic = frozenset({"params_m"})
        self.objectives = ("top1:max", "latency_ms:min")
        self._resolution = resolution
        self._layers = self._read_model(folder / _FILES[0])
        self._fixed, self._blocks = _read_latencies(folder / _FILES[1], resolution)
        self._front = self._read_front(folder / _FILES[2]) if resolution == 224 else None
        digest = hashlib.sha256(str(resolution).encode())
        for name in _FILES:
            digest.update((folder / name).read_bytes())
        self._fingerprint = digest.hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Hash of the files and the resolution."""
        return self._fingerprint

    @staticmethod
    def _read_model(path: Path) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        arrays = read_arrays(path, [f"{kind}{i}" for i in range(4) for kind in "Wb"])
        layers = [(arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(4)]
        width = _SLOTS * (len(_KERNELS) + len(_EXPANDS)) + _N_RESOLUTIONS
        for W, b in layers:
            if W.ndim != 2 or W.shape[1] != width or b.shape != W.shape[:1]:
                raise DataError(f"{path}: the layers of the accuracy model do not fit together")
            width = W.shape[0]
        return layers

    @staticmethod
    def _read_front(path: Path) -> KnownFront:
        """Return the front of (100 - top-1, latency) in our units."""
        arrays = read_arrays(path, ["F", "lo", "hi"])
        sign, shift = np.array([-1.0, 1.0]), np.array([100.0, 0.0])
        if arrays["F"].ndim != 2 or any(arrays[k].shape[-1:] != (2,) for k in ("F", "lo", "hi")):
            raise DataError(f"{path}: 'F' must be [n, 2], 'lo' and 'hi' [2]")
        return KnownFront(*(arrays[k].astype(np.float64) * sign + shift for k in ("F", "lo", "hi")))

    def known_front(self, objectives: Sequence[Objective]) -> KnownFront | None:
        """Return the best front known for top-1 and latency at 224 pixels, or of one of them alone."""
        columns = {"top1:max": 0, "latency_ms:min": 1}
        names = [str(o) for o in objectives]
        if self._front is None or not set(names) <= set(columns):
            return None
        at = [columns[name] for name in names]
        return KnownFront(self._front.values[:, at], self._front.ideal[at], self._front.nadir[at])

    def evaluate(self, G: Rows, metrics: Collection[str]) -> dict[str, Values]:
        """Return metrics of canonical rows, name -> float64 ``[n]``."""
        compute = {"top1": self._top1, "latency_ms": self._latency, "params_m": self._params}
        return {m: compute[m](G) for m in metrics}

    def _top1(self, G: Rows) -> Values:
        active = self.space.active(G)[:, :_SLOTS, None]
        kernels = np.eye(len(_KERNELS), dtype=np.float32)[G[:, :_SLOTS]] * active
        expands = np.eye(len(_EXPANDS), dtype=np.float32)[G[:, _SLOTS : 2 * _SLOTS]] * active
        resolution = np.zeros((len(G), _N_RESOLUTIONS), dtype=np.float32)
        resolution[:, (self._resolution - _FIRST_RESOLUTION) // _RESOLUTION_STEP] = 1
        x = np.concatenate([kernels.reshape(len(G), -1), expands.reshape(len(G), -1), resolution], axis=1)
        # In double precision: a row's accuracy must not depend on the rows that are evaluated with it.
        y = x.astype(np.float64)
        for i, (W, b) in enumerate(self._layers):
            y = y @ W.T.astype(np.float64) + b
            y = np.maximum(y, 0) if i < len(self._layers) - 1 else y
        return np.asarray(np.round(100 * y[:, 0], 8))

    def _latency(self, G: Rows) -> Values:
        active = self.space.active(G)[:, :_SLOTS]
        ms = self._blocks[np.arange(_SLOTS), G[:, :_SLOTS], G[:, _SLOTS : 2 * _SLOTS]]
        return np.asarray(self._fixed + (ms * active).sum(axis=1))

    def _params(self, G: Rows) -> Values:
        return np.asarray(self._supernet.analytic(G)["params_m"], dtype=np.float64)

    @cached_property
    def _supernet(self) -> Any:
        from supernets import build  # needs torch: only problems that ask for parameters pay for it

        return build(self.space.name)

    def __getstate__(self) -> dict[str, Any]:
        # Workers build their own supernet where they need one.
        return {k: v for k, v in self.__dict__.items() if k != "_supernet"}


def _read_latencies(path: Path, resolution: int) -> tuple[float, Values]:
    """Return the latency of what is fixed, and of each block ``[20, kernel, expand]``, in ms."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            table: Mapping[str, float] = {k: float(v["mean"]) for k, v in json.load(file)[str(resolution)].items()}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {path}: gzipped JSON {{resolution: {{block: {{'mean': ms}}}}}} with resolution {resolution} "
            f"is needed ({type(error).__name__}: {error})"
        ) from error
    first = resolution // 2
    stem = f"{first}x{first}x24"
    fixed = sum(
        ms for key, ms in table.items() if not key.startswith("expanded_conv") or f"{stem}-output:{stem}" in key
    )
    blocks = np.zeros((_SLOTS, len(_KERNELS), len(_EXPANDS)))
    size, width = first, 24
    for stage, (out, stride, se, hs) in enumerate(_STAGES):
        for block in range(4):
            step = stride if block == 0 else 1
            to = -(-size // step)
            for k, kernel in enumerate(_KERNELS):
                for e, expand in enumerate(_EXPANDS):
                    key = (
                        f"expanded_conv-input:{size}x{size}x{width}-output:{to}x{to}x{out}-expand:{expand * width}"
                        f"-kernel:{kernel}-stride:{step}-idskip:{int(block > 0)}-se:{se}-hs:{hs}"
                    )
                    if key not in table:
                        raise DataError(f"{path} has no latency of {key!r}")
                    blocks[stage * 4 + block, k, e] = table[key]
            size, width = to, out
    return fixed, blocks


@register_reader("ofa-mobilenetv3")
def read_ofa_mobilenetv3(path: Path, *, resolution: str = "224") -> OfaMobileNetV3:
    """2.2e19 networks of width 1.2: top-1 by the published accuracy model, latency of a phone by blocks.

    Args:
        path: Folder with the accuracy model, the latency table and the reference front.
        resolution: Input size in pixels: 160, 176, 192, 208 or 224; a best front is known for 224.

    Raises:
        ConfigError: Another resolution; `DataError` for missing or malformed files.
    """
    if resolution not in map(str, _RESOLUTIONS):
        allowed = ", ".join(map(str, _RESOLUTIONS))
        raise ConfigError(f"ofa-mobilenetv3: resolution {resolution!r} is not there; there are {allowed}")
    return OfaMobileNetV3(path, int(resolution))
