"""The source that makes an extracted expert configuration where nothing of ours is installed."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import Any

import torch

from supernets.transformer.handout import hook_parts, shown, write_source
from supernets.transformer.rebuild import Blueprint
from supernets.transformer.skeleton import add_tensors, build_skeleton, differences


def source(plan: Blueprint, twin: Any) -> str | None:
    """Return Python source of ``build_model()`` for a subnet; None where it cannot be written down.

    What the subnet has beyond its stock class is found by looking at it: shapes and attributes, more parameters and
    buffers (index maps, constants), hooks. What an extracted model computes otherwise needs no entry here, as long as
    it is one of these.

    Args:
        plan: Of the whole model.
        twin: The extracted subnet; shapes alone matter.
    """
    if plan.recipe is None:
        return None
    recipe = {**plan.recipe, "config": json.loads(twin.config.to_json_string(use_diff=False))}
    with torch.device("meta"):
        skeleton = build_skeleton(recipe)
    known = {n for n, _ in (*skeleton.named_parameters(), *skeleton.named_buffers())}
    added = {
        name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."), "learns": learns}
        for named, learns in ((twin.named_parameters(), True), (twin.named_buffers(), False))
        for name, t in named
        if name not in known
    }
    found, hooks = differences(add_tensors(skeleton, added), twin), hook_parts(twin)
    if found is None or hooks is None:
        return None
    if added:
        hooks = replace(
            hooks,
            constants={"ADDED": shown(added)},
            definitions=[inspect.getsource(add_tensors).strip(), *hooks.definitions],
            steps=["add_tensors(model, ADDED)", *hooks.steps],
        )
    return write_source("transformers", recipe, *found, hooks)
