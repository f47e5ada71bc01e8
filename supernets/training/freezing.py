"""Parameters that a training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import nn

_EXAMPLES = 5


def freeze_faults(net: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return one message for each pattern that matches no parameter, and one where nothing is left to train.

    Args:
        net: The network.
        patterns: Shell-style patterns of parameter names; of those that match a name the last counts, and one that
            begins with ``!`` lets it learn.
    """
    names = [name for name, _ in net.named_parameters()]
    some = ", ".join(names[:: max(1, len(names) // _EXAMPLES)][:_EXAMPLES])
    faults = [
        f"freeze: {pattern!r} matches no parameter; there are {len(names)}, such as {some}"
        for pattern in patterns
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in names)
    ]
    if patterns and not trainable(net, patterns):
        faults.append(f"freeze={list(patterns)} leaves no parameter to train; freeze fewer")
    return faults


def trainable(net: nn.Module, patterns: Sequence[str]) -> list[nn.Parameter]:
    """Return the parameters that take gradients and match no pattern; those that are shared once."""
    return [p for name, p in net.named_parameters() if p.requires_grad and not _matches(name, patterns)]


@contextmanager
def frozen(net: nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """Turn the gradients of matching parameters off for a while; afterwards they take them as before."""
    held = [p for name, p in net.named_parameters() if p.requires_grad and _matches(name, patterns)]
    for p in held:
        p.requires_grad_(False)
        p.grad = None
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    found = [pattern for pattern in patterns if fnmatchcase(name, pattern.removeprefix("!"))]
    return bool(found) and not found[-1].startswith("!")
