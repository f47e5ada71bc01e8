"""What is handed out with a subnet runs where nothing of ours is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from supernets.transformer.definitions import definitions
from supernets.transformer.handout import hook_parts, own_behaviour

TOOLS = '''
"""Tools."""

from __future__ import annotations

import torch
from torch import Tensor

FACTOR = 3


def scaled(x: Tensor) -> Tensor:
    """Scale."""
    return FACTOR * x


def unused(x):
    return x
'''

USER = '''
"""Uses them."""

from __future__ import annotations

from typing import Any

from supernets.for_test import tools
from supernets.for_test.other import shifted

LIMITS: tuple[float, float] = (-9.0, 9.0)


def scaled(x):
    return tools.scaled(x).clamp(*LIMITS)


def forward(module: Any, x):
    return scaled(shifted(x))


class Adds:
    def __init__(self, n: float) -> None:
        self.n = n

    def __call__(self, _, __, output):
        return output + self.n
'''

OTHER = """
def shifted(x):
    return x + 1
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of ours that uses two others."""
    import importlib

    import supernets

    package = tmp_path / "for_test"
    package.mkdir()
    for name, text in (("__init__", ""), ("tools", TOOLS), ("user", USER), ("other", OTHER)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(supernets, "__path__", [*supernets.__path__, str(tmp_path)])
    yield importlib.import_module("supernets.for_test.user")
    for name in [m for m in sys.modules if m.startswith("supernets.for_test")]:
        del sys.modules[name]


def test_definitions_bring_what_they_refer_to(user: Any) -> None:
    found = definitions(user, ["forward"])
    text = "\n".join(["from __future__ import annotations", *sorted(found.imports), *found.sources.values()])
    assert "supernets" not in text
    assert "unused" not in text
    space: dict[str, Any] = {}
    exec(compile(text, "handed_out", "exec"), space)
    assert torch.equal(space["forward"](None, torch.tensor([1.0, 5.0])), torch.tensor([6.0, 9.0]))
    assert torch.equal(user.forward(None, torch.tensor([1.0, 5.0])), torch.tensor([6.0, 9.0]))


def test_forward_methods_and_hooks_are_found_and_set_again(user: Any) -> None:
    from types import MethodType

    model = nn.Sequential(nn.Identity(), nn.Identity())
    assert list(own_behaviour(model)) == []
    model[0].forward = MethodType(user.forward, model[0])
    model[1].register_forward_hook(user.Adds(2.0))
    parts = hook_parts(model)
    assert parts is not None
    again = nn.Sequential(nn.Identity(), nn.Identity())
    lines = [*parts.imports, *parts.definitions]
    space: dict[str, Any] = {"model": again}
    exec(compile("\n".join(["from __future__ import annotations", *lines, *parts.steps]), "handed_out", "exec"), space)
    x = torch.tensor([1.0, 5.0])
    assert torch.equal(again(x), model(x))
    assert torch.equal(again(x), torch.tensor([8.0, 11.0]))
    model[1].register_forward_hook(lambda *_: None)
    assert hook_parts(model) is None
