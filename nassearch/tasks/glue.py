"""The classification tasks of GLUE by name."""

from __future__ import annotations

from nassearch.errors import ConfigError

HUB_NAME = "nyu-mll/glue"
_COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}
NAMES = tuple(_COLUMNS)


def glue_columns(name: str) -> tuple[str, ...] | None:
    """Return the columns of the text or texts of a task of GLUE (Wang et al., ICLR 2019), None for another name.

    Raises:
        ConfigError: It is no classification.
    """
    if name in ("stsb", "sts-b"):
        raise ConfigError(f"GLUE's {name} is a regression, not a classification; choose one of {', '.join(NAMES)}")
    return _COLUMNS.get(name)
