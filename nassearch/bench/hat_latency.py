"""Latencies of translation Transformers (HAT, Wang et al., ACL 2020, arXiv:2005.14187)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nassearch.bench.npz import need_folder
from nassearch.bench.registry import register_reader
from nassearch.bench.tables import RowTable
from nassearch.errors import ConfigError, DataError
from search_spaces import Gene, SearchSpace
from search_spaces.errors import did_you_mean

DEVICES = {
    "xeon": "wmt14ende_cpu_xeon_all.csv",
    "titanxp": "wmt14ende_gpu_titanxp_all.csv",
    "raspberrypi": "wmt14ende_cpu_raspberrypi_all.csv",
}
FEATURES = (
    "encoder_embed_dim", "encoder_layer_num", "encoder_ffn_embed_dim_avg", "encoder_self_attention_heads_avg",
    "decoder_embed_dim", "decoder_layer_num", "decoder_ffn_embed_dim_avg", "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg", "decoder_arbitrary_ende_attn_avg",
)  # fmt: skip
_TARGETS = ("latency_mean_encoder", "latency_mean_decoder")
_QKV = 512  # width of queries, keys and values, whatever the embedding


@register_reader("hat-latency")
def read_hat_latency(path: Path, *, device: str = "xeon") -> RowTable:
    """2,000 measured Transformers: the most weights for the least latency (there are no accuracies).

    A gene is a feature averaged over the layers, as in the file, with the values that occur there; a combination
    that was not measured counts as the nearest one that was. ``weights_m`` are the matrices of all layers, without
    embeddings, in millions: what a model can hold, computed from the features.

    Args:
        path: Folder with the three CSV files.
        device: ``"xeon"``, ``"titanxp"`` or ``"raspberrypi"``.

    Raises:
        ConfigError: Another device; `DataError` for a missing or malformed file.
    """
    if device not in DEVICES:
        near = did_you_mean(device, DEVICES)
        raise ConfigError(f"hat-latency: device {device!r} is not there{near}; there are {', '.join(DEVICES)}")
    need_folder(path, [DEVICES[device]])
    X, encoder, decoder = _read(path / DEVICES[device])
    genes, rows = [], np.empty(X.shape, dtype=np.int64)
    for j, name in enumerate(FEATURES):
        values, rows[:, j] = np.unique(X[:, j], return_inverse=True)
        genes.append(Gene(name, values.tolist(), role="width" if "dim" in name else None))
    return RowTable(
        f"hat-latency-{device}",
        SearchSpace(f"hat-averages-{device}", genes),
        rows,
        {
            "weights_m": _weights(X),
            "latency_ms": encoder + decoder,
            "latency_ms@encoder": encoder,
            "latency_ms@decoder": decoder,
        },
        objectives=["weights_m:max", "latency_ms:min"],
        analytic=["weights_m"],
        missing="nearest",
    )


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return features ``[n, 10]`` and the latencies of encoder and decoder ``[n]`` in ms."""
    with path.open(encoding="utf-8") as file:
        head = file.readline().strip().split(",")
        if missing := [name for name in (*FEATURES, *_TARGETS) if name not in head]:
            raise DataError(f"{path} has no column {', '.join(missing)}")
        try:
            data = np.loadtxt(file, delimiter=",", ndmin=2)
        except ValueError as error:
            raise DataError(f"{path} is not a table of numbers: {error}") from error
    if not len(data):
        raise DataError(f"{path} has no rows")
    column = {name: data[:, j] for j, name in enumerate(head)}
    # Averages of integers over at most six layers: rounding joins those that differ in their last digit only.
    X: NDArray[np.float64] = np.stack([column[name] for name in FEATURES], axis=1).round(6)
    return X, column[_TARGETS[0]], column[_TARGETS[1]]


def _weights(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of all layers in millions; averages times layers are exact sums."""
    f = dict(zip(FEATURES, X.T, strict=True))
    wide, deep = f["encoder_embed_dim"], f["decoder_embed_dim"]
    encoder = f["encoder_layer_num"] * (4 * _QKV * wide + 2 * wide * f["encoder_ffn_embed_dim_avg"])
    cross = 2 * _QKV * deep + 2 * _QKV * wide  # queries and output from the decoder, keys and values from the encoder
    decoder = f["decoder_layer_num"] * (4 * _QKV * deep + cross + 2 * deep * f["decoder_ffn_embed_dim_avg"])
    return np.asarray((encoder + decoder) / 1e6)
