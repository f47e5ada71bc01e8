"""What an architecture of a translation space means: widths, heads and layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import SearchSpace
from supernets.errors import SupernetError

_NEEDED = (
    "enc_embed", "enc_layers", "enc_ffn.0", "enc_heads.0", "dec_embed", "dec_layers", "dec_ffn.0", "dec_heads.0",
    "dec_cross_heads.0", "dec_cross.0",
)  # fmt: skip


def memories_of(cross: int) -> int:
    """Return how many of the encoder's last layers a value of ``dec_cross`` attends to."""
    return 1 if cross < 0 else cross + 1


def check_options(config: Mapping[str, Any]) -> None:
    """Check numbers.

    Raises:
        SupernetError: One that is not allowed.
    """
    least = {"vocab_size": 5, "inner": 1, "max_length": 1, "length": 1, "beam": 1}
    if config["source_vocab_size"] is not None:
        least["source_vocab_size"] = 5
    for name, minimum in least.items():
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise SupernetError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    if config["length"] > config["max_length"]:
        raise SupernetError(f"length={config['length']} is more than max_length={config['max_length']}")
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0 <= config[name] < 1:
            raise SupernetError(f"{name} must be at least 0 and below 1, got {config[name]!r}")


def check_space(space: SearchSpace, inner: int) -> None:
    """Check that a space is one of translation Transformers.

    Raises:
        SupernetError: Genes are missing, heads do not divide the width, or more layers are attended to than there are.
    """
    names = {gene.name for gene in space.genes}
    if missing := [name for name in _NEEDED if name not in names]:
        raise SupernetError(
            f"space {space.name!r} has no gene {', '.join(missing)}; build it with search_spaces.hat_space"
        )
    choices = {gene.name: gene.choices for gene in space.genes}
    for name, values in choices.items():
        heads = [h for h in values if name.partition(".")[0] in ("enc_heads", "dec_heads", "dec_cross_heads")]
        if wrong := [h for h in heads if inner % int(h)]:
            raise SupernetError(f"gene {name!r}: {wrong[0]} heads do not divide a width of {inner} evenly")
    most = max(memories_of(int(v)) for v in choices["dec_cross.0"])
    if most > min(int(v) for v in choices["enc_layers"]):
        raise SupernetError(
            f"a decoder layer may attend to {most} encoder layers but the encoder may have "
            f"{min(choices['enc_layers'])}; give it more layers or fewer values of dec_cross"
        )


def network_config(space: SearchSpace, arch: Mapping[str, Any], whole: bool = False) -> dict[str, Any]:
    """Return ``encoder`` and ``decoder`` of `TranslationTransformer`'s configuration, without dropout.

    Args:
        space: The space.
        arch: An architecture in canonical form.
        whole: Also the layers beyond its depth.
    """

    def depth(side: str) -> int:
        return len(space.groups[f"{side}_ffn"]) if whole else int(arch[f"{side}_layers"])

    encoder = [{"ffn": arch[f"enc_ffn.{i}"], "heads": arch[f"enc_heads.{i}"]} for i in range(depth("enc"))]
    decoder = [
        {
            "ffn": arch[f"dec_ffn.{i}"],
            "heads": arch[f"dec_heads.{i}"],
            "cross_heads": arch[f"dec_cross_heads.{i}"],
            "memories": memories_of(arch[f"dec_cross.{i}"]),
        }
        for i in range(depth("dec"))
    ]
    return {
        "encoder": {"width": arch["enc_embed"], "layers": encoder},
        "decoder": {"width": arch["dec_embed"], "layers": decoder},
    }


class Costs:
    """Exact parameters and multiply-accumulates of rows.

    Args:
        space: The space of the rows.
        inner: Width of queries, keys and values.
        vocab_size: Tokens of the target.
        source_vocab_size: Tokens of the source; None where both share one table.
        length: Tokens of source and of target that multiply-accumulates are of.
    """

    def __init__(
        self, space: SearchSpace, *, inner: int, vocab_size: int, source_vocab_size: int | None, length: int
    ) -> None:
        self._space, self._inner, self._vocabularies = space, inner, (vocab_size, source_vocab_size)
        self._length = length

    def __call__(self, G: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return parameters, multiply-accumulates and the width of the table of positions, each int64 ``[n]``."""
        space, inner, length = self._space, self._inner, self._length
        rows, active = space.canonical(G), space.active(G)

        def values(name: str) -> NDArray[np.int64]:
            column = space.column(name)
            return np.array(space.genes[column].choices, dtype=np.int64)[rows[:, column]]

        def layers(prefix: str) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
            return [(values(f"{prefix}.{i}"), active[:, c]) for i, c in enumerate(space.groups[prefix])]

        vocabulary, source = self._vocabularies
        e, d = values("enc_embed"), values("dec_embed")
        width = np.maximum(e, d)
        parameters = vocabulary * width if source is None else vocabulary * d + source * e
        macs = length * vocabulary * d
        pair = 2 * inner * length * length  # scores and weighted values of one memory, the masked ones too
        for ffn, on in layers("enc_ffn"):
            parameters = parameters + on * (4 * e * inner + 3 * inner + e + 2 * e * ffn + ffn + e + 4 * e)
            macs = macs + on * (length * (4 * e * inner + 2 * e * ffn) + pair)
        for (ffn, on), (cross, _) in zip(layers("dec_ffn"), layers("dec_cross"), strict=True):
            memories = np.where(cross < 0, 1, cross + 1)
            own = 4 * d * inner + 3 * inner + d
            other = 2 * d * inner + 2 * e * inner + 3 * inner + d
            parameters = parameters + on * (own + other + 2 * d * ffn + ffn + d + 6 * d)
            macs = macs + on * (length * (6 * d * inner + 2 * d * ffn) + pair)
            macs = macs + on * memories * (length * 2 * e * inner + pair)
        return parameters, macs, width
