"""What an export format must do, and formats by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nassearch.errors import ConfigError
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from supernets.base import Inputs


@dataclass(frozen=True)
class Subject:
    """What is exported: the extracted subnet in eval mode, what to feed it, how to rebuild it without us.

    Attributes:
        module: The subnet.
        example: Inputs of batch size 2.
        source: Python source of ``build_model()``, which makes the module without weights and without
            nassearch; None where the family gives none.
        origin: Folder with the files that came with the model that the supernet was made of, for those of its
            tokenizer or image processor.
        tokenizer: Loads the tokenizer of the run's texts, or returns None; None where there is no run.
    """

    module: nn.Module
    example: Inputs
    source: str | None
    origin: Path | None = None
    tokenizer: Callable[[], Any] | None = None


class ExportFormat(ABC):
    """One form of leaving: writes files, and loads them again for the comparison that makes an export count."""

    name = ""
    summary = ""
    tolerance = 1e-5
    """Greatest difference to the subnet's outputs, relative and absolute."""

    form = ""
    """Set by `write`, where it can tell: which form was possible."""
    reason = ""
    """Why, as what follows "because"."""

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> None:
        """Write the model into an existing folder."""

    @abstractmethod
    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load what `write` wrote and return the outputs of each batch; batch sizes differ."""

    @abstractmethod
    def usage(self, example: Inputs) -> str:
        """Return the few lines of Python with which a user loads and calls the model.

        Args:
            example: Inputs as the model takes them: by name or by position.
        """


F = TypeVar("F", bound=type[ExportFormat])
_REGISTRY: dict[str, type[ExportFormat]] = {}


def register_export(name: str, summary: str) -> Callable[[F], F]:
    """Register an `ExportFormat` under a name.

    Raises:
        ValueError: The name is taken.
    """

    def register(cls: F) -> F:
        if name in _REGISTRY:
            raise ValueError(f"an export format named {name!r} is registered already; choose another name")
        cls.name, cls.summary = name, summary
        _REGISTRY[name] = cls
        return cls

    return register


def list_exports() -> dict[str, str]:
    """Return the formats: name -> summary."""
    return {name: cls.summary for name, cls in sorted(_REGISTRY.items())}


def make_export(name: str) -> ExportFormat:
    """Make a format by name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in _REGISTRY:
        raise ConfigError(
            f"unknown export format {name!r}{did_you_mean(name, _REGISTRY)}; available: {', '.join(sorted(_REGISTRY))}"
        )
    return _REGISTRY[name]()
