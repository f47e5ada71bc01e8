"""Texts of five domains in splits that do not overlap, and the tokens of them, for the Mixture-of-Experts benchmarks.

Shakespeare, WikiText-2 and Multi30k (German, English) are read from a folder of data, Python is the source of the
running interpreter's standard library. `write_texts` writes a folder per domain, and one of all domains, that
``--task causal-lm:text:FOLDER`` reads: ``train.txt`` is what the model learns from, with the calibration text at its
end (where that task takes its calibration blocks), ``valid.txt`` is the search split, ``test.txt`` the report split.
"""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DOMAINS = ("shakespeare", "wikitext", "python", "german", "english")
SPLITS = ("train", "calibration", "search", "report")
HELD_OUT = 64_000  # characters of each split that is not trained on
PYTHON = 2_600_000  # characters of Python to train on
_CHUNK = 4_000
_LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data"}
_FILES = {"train": "train.txt", "search": "valid.txt", "report": "test.txt"}


def read_domains(data: Path, seed: int) -> dict[str, dict[str, str]]:
    """Return domain -> split -> text.

    Multi30k keeps its own splits (validation: search, test of 2016: report); the others are cut at line ends, Python
    between files. A file or a line is in one split only.

    Args:
        data: Folder with ``tiny_shakespeare``, ``wikitext2_valid_test`` and ``multi30k_en_de``.
        seed: Of the choice of Python files.
    """
    shakespeare = (data / "tiny_shakespeare/input.txt").read_text(encoding="utf-8")
    wiki = "".join((data / f"wikitext2_valid_test/{n}.txt").read_text(encoding="utf-8") for n in ("valid", "test"))
    texts = {"shakespeare": _cut(shakespeare), "wikitext": _cut(wiki), "python": _python(seed)}
    for domain, end in (("german", "de"), ("english", "en")):
        folder = data / "multi30k_en_de"
        parts = {n: (folder / f"{n}.{end}").read_text(encoding="utf-8") for n in ("train", "val", "test_2016_flickr")}
        own = _cut(parts["train"], held_out=("calibration",))
        known = set(own["train"].splitlines())
        for split, part in (("calibration", own["calibration"]), ("search", parts["val"]),
                            ("report", parts["test_2016_flickr"])):  # fmt: skip
            fresh = [line for line in part.splitlines() if line not in known]
            known.update(fresh)
            own[split] = "\n".join(fresh)[:HELD_OUT] + "\n"
        texts[domain] = own
    return texts


def _cut(text: str, held_out: tuple[str, ...] = SPLITS[1:]) -> dict[str, str]:
    """Cut held-out splits from the end of a text, at line ends."""
    parts = {}
    for split in held_out:
        at = text.rindex("\n", 0, len(text) - HELD_OUT) + 1
        text, parts[split] = text[:at], text[at:]
    return {"train": text, **parts}


def _python(seed: int) -> dict[str, str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(f for f in root.rglob("*.py") if not _LEFT_OUT & set(f.relative_to(root).parts))
    random.Random(seed).shuffle(files)
    parts, wanted = dict.fromkeys(SPLITS, ""), dict.fromkeys(SPLITS[1:], HELD_OUT) | {"train": PYTHON}
    for file in files:
        split = next((s for s in (*SPLITS[1:], "train") if len(parts[s]) < wanted[s]), None)
        if split is None:
            break
        text = file.read_text(encoding="utf-8", errors="ignore")
        # A long file would be a held-out split of its own.
        if split == "train" or len(text) < HELD_OUT // 4:
            parts[split] += text
    return {s: p if s == "train" else p[:HELD_OUT] for s, p in parts.items()}


def write_texts(texts: dict[str, dict[str, str]], folder: Path) -> None:
    """Write a folder per domain, and ``all``: chunks of the domains in turn."""
    every = {split: _in_turn([texts[d][split] for d in DOMAINS]) for split in SPLITS}
    for domain, parts in {**texts, "all": every}.items():
        into = folder / domain
        into.mkdir(parents=True, exist_ok=True)
        for split, name in _FILES.items():
            text = parts["train"] + parts["calibration"] if split == "train" else parts[split]
            (into / name).write_text(text, encoding="utf-8")


def _in_turn(texts: list[str]) -> str:
    places = range(0, max(map(len, texts)), _CHUNK)
    return "".join(text[at : at + _CHUNK] for at in places for text in texts)


def make_tokenizer(texts: dict[str, dict[str, str]], size: int) -> Any:
    """Train a byte-level BPE tokenizer of transformers on the training texts, each domain with the same weight."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    least = min(len(texts[d]["train"]) for d in DOMAINS)
    made = ByteLevelBPETokenizer()
    made.train_from_iterator((texts[d]["train"][:least] for d in DOMAINS), size, special_tokens=["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, eos_token="<|end|>")


def token_blocks(
    texts: dict[str, dict[str, str]], tokenizer: Any, split: str, length: int
) -> dict[str, NDArray[np.int64]]:
    """Return the whole blocks of each domain, int64 ``[blocks, length]``."""
    blocks = {}
    for domain in DOMAINS:
        ids = np.array(tokenizer(texts[domain][split], verbose=False)["input_ids"], dtype=np.int64)
        blocks[domain] = ids[: len(ids) // length * length].reshape(-1, length)
    return blocks
