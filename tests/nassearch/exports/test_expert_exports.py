"""Expert configurations leave as folders that transformers loads in a process without nassearch, bit for bit."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_experts_operators import configured
from tiny_moe import CONFIGS, batches, make_moe

from nassearch.exports import Subject, make_export
from nassearch.exports.outside import run_outside
from nassearch.exports.stock import transformers_fault
from supernets import convert
from supernets.transformer.handout import hook_parts

CHOICES: dict[str, Any] = {"keep": [4, 8], "k": [1, 2, 3], "top_p": [0.6, 1.0], "width": [8, 16]}

# All folders in one process: starting one takes longer than all that is done in it.
_SCRIPT = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
tokens = torch.load(sys.argv[2], weights_only=True)
for folder in sorted(p for p in Path(sys.argv[1]).iterdir() if (p / "config.json").exists()):
    trust = any(folder.glob("*.py"))
    try:
        if trust:
            AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
            raise SystemExit(f"{folder} ran its code without being allowed to")
    except ValueError as error:
        assert "trust_remote_code" in str(error), error
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, trust_remote_code=trust).eval()
    with torch.no_grad():
        result = {"logits": model(input_ids=tokens).logits, **model.state_dict()}
    torch.save(result, folder / "result.pt")
    if "olmoe-" in folder.name:  # what is saved again stays what it is
        model.save_pretrained(folder / "again")
        again = AutoModelForCausalLM.from_pretrained(folder / "again", trust_remote_code=trust).eval()
        with torch.no_grad():
            assert torch.equal(again(input_ids=tokens).logits, result["logits"]), folder
assert not any(m.split(".")[0] in ("nassearch", "supernets", "search_spaces") for m in sys.modules)
"""


def by_layer(net: Any, **lists: Any) -> dict[str, Any]:
    """An architecture whose blocks take the values of lists in turn."""
    arch = dict(net.space.decode(net.space.largest[None])[0])
    for dim, values in lists.items():
        for slot in range(len(net.blocks)):
            arch[f"{dim}.{slot}"] = values[slot % len(values)]
    decoded: dict[str, Any] = net.space.decode(net.space.encode([arch]))[0]
    return decoded


STORED = ("olmoe", "gpt_oss", "deepseek_v3")
"""Families whose factored, promoted and whole-layer forms leave, too."""
OWN: dict[str, Callable[[Any], dict[str, Any]]] = {
    "sizes": lambda net: by_layer(net, keep=[4, 8], width=[16, 8], op=["drop"], k=[2]),
    # Tensors alone do not show these.
    "k": lambda net: by_layer(net, k=[1, 3]),
    "top_p": lambda net: by_layer(net, top_p=[0.6]),
    "merged": lambda net: by_layer(net, keep=[4], op=["m-smoe", "mone"], k=[2], top_p=[1.0, 0.6], width=[8]),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, Any]]:
    """Family and configuration -> folder, export format, and the subnet."""
    root, found = tmp_path_factory.mktemp("exports"), {}
    for name in CONFIGS:
        free = convert(make_moe(name), calibration=batches(), **CHOICES).eval()
        archs = {(case, free): make(free) for case, make in OWN.items()}
        same = convert(make_moe(name), calibration=batches(), uniform=True, keep=[4, 8], k=[2, 3], width=[8, 16]).eval()
        archs[("uniform", same)] = configured(same, keep=4, k=2, width=8)
        if name in STORED:
            kinds = {"operators": ["drop", "mc-smoe"], "blocks": ["experts", "dense", "skip"], "width": [16]}
            net = convert(make_moe(name), calibration=batches(), keep=[4, 8], k=[2, 3], protect=False, **kinds).eval()
            archs[("factored", net)] = by_layer(net, op=["mc-smoe", "drop"], keep=[4], k=[2])
            archs[("whole", net)] = by_layer(net, block=["dense", "skip"])
            if any(gene.name.startswith("shared") for gene in net.space.genes):
                archs[("promoted", net)] = by_layer(net, shared=[1], keep=[4, 8], k=[2])
        for (case, net), arch in archs.items():
            subject = Subject(net.extract(arch).eval(), net.example_inputs(), net.rebuild_source(arch))
            exporter, folder = make_export("transformers"), root / f"{name}-{case}"
            exporter.write(subject, folder)
            found[f"{name}-{case}"] = (folder, exporter, subject.module)
    torch.save(batches(1)[0]["input_ids"], root / "tokens.pt")
    environment = {**os.environ, "HF_MODULES_CACHE": str(root / "code"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", _SCRIPT, str(root), str(root / "tokens.pt")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return found


_ALL = [(name, case) for name in CONFIGS for case in [*OWN, "uniform"]]
_ALL += [(name, case) for name in STORED for case in ("factored", "whole", "promoted")]


@pytest.mark.parametrize(("name", "case"), _ALL)
def test_folders_load_without_us_bit_for_bit(name: str, case: str, exported: dict[str, Any]) -> None:
    if f"{name}-{case}" not in exported:
        assert (name, case) == ("deepseek_v3", "promoted")  # grouped routing promotes by group only
        return
    folder, exporter, module = exported[f"{name}-{case}"]
    result = torch.load(folder / "result.pt", weights_only=True)
    with torch.no_grad():
        expected = module(input_ids=batches(1)[0]["input_ids"]).logits
    logits = result.pop("logits")
    assert result.keys() == module.state_dict().keys()
    assert all(torch.equal(result[n], t) for n, t in module.state_dict().items())
    # The same bits in the same class; kernels may round otherwise where tensors lie otherwise in memory.
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    config = json.loads((folder / "config.json").read_text())
    if case == "uniform":
        assert exporter.form == "stock"
        assert not list(folder.glob("*.py"))
        if name in ("mixtral", "olmoe", "olmoe_norm", "qwen2_moe", "qwen3_moe", "gpt_oss", "granitemoe"):
            assert (config["num_experts"], config["num_local_experts"]) == (4, 4)
    else:
        assert exporter.form == "own modelling file"
        assert "trust_remote_code=True" in exporter.reason
        assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_subnet.SubnetModel"
        assert config["model_type"].endswith("_subnet")


def test_the_modelling_file_holds_what_its_subnet_needs(exported: dict[str, Any]) -> None:
    plain = (exported["olmoe-sizes"][0] / "modeling_subnet.py").read_text()
    merged = (exported["olmoe-merged"][0] / "modeling_subnet.py").read_text()
    assert "MapHooks" not in plain
    assert "TopPHook" not in plain
    assert "expert_constants" in merged
    assert "register_forward_hook(TopPHook(p=0.6, sigmoid=False))" in merged
    for text in (plain, merged):
        imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports}
        assert {str(n).partition(".")[0] for n in names} <= {
            "__future__",
            "collections",
            "typing",
            "torch",
            "transformers",
        }
        assert "def build_skeleton" not in text


def test_no_stock_class_for_what_tensors_do_not_show() -> None:
    net = convert(make_moe("qwen3_moe"), calibration=batches(), **CHOICES)
    assert transformers_fault(net.extract(net.active)) is None
    fault = transformers_fault(net.extract(by_layer(net, k=[1, 3])))
    assert fault is not None
    assert "says that model.layers.0.mlp.gate has top_k = 1" in fault
    hooked = transformers_fault(net.extract(by_layer(net, top_p=[0.6])))
    assert hooked is not None
    assert "computes what the subnet does in model.layers.0.mlp.gate" in hooked


def test_hooks_that_cannot_be_written_down_give_no_source() -> None:
    net = convert(make_moe("olmoe"), calibration=batches(), **CHOICES)
    twin = net.extract(net.active)
    twin.model.layers[0].register_forward_hook(lambda *_: None)
    assert hook_parts(twin) is None


def test_the_state_dict_export_rebuilds_it_too(tmp_path: Path) -> None:
    net = convert(make_moe("deepseek_v3"), calibration=batches(), **CHOICES).eval()
    arch = OWN["merged"](net)
    subject = Subject(net.extract(arch).eval(), net.example_inputs(), net.rebuild_source(arch))
    exporter = make_export("state-dict")
    exporter.write(subject, tmp_path)
    loader = "sys.path.insert(0, folder)\nfrom model import load_model\nmodel = load_model()"
    ((logits, *_),) = run_outside(loader, tmp_path, [subject.example], "it")
    with torch.no_grad():
        torch.testing.assert_close(logits, subject.module(**subject.example).logits, rtol=1e-5, atol=1e-5)
