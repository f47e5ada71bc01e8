"""Exports load without us, give the subnet's outputs, and come with a card; what differs is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nassearch.errors import ConfigError, ExportError
from nassearch.exports import Subject, export, list_exports, register_export
from nassearch.exports import base as registry
from nassearch.exports.torch_program import TorchProgram
from nassearch.runs import Record, Run

OURS = ("nassearch", "supernets", "predictors", "search_spaces")
FILES = {"torch": ["model.pt2"], "onnx": ["model.onnx"], "state-dict": ["model.py", "model.safetensors"]}
TOLERANCE = {"torch": 1e-5, "onnx": 1e-4, "state-dict": 1e-5}
BATCHES = (1, 2, 5, 17)

# What a user would write, following the card; our packages cannot be imported even if they are installed.
LOADERS = {
    "torch": "module = torch.export.load(sys.argv[1] + '/model.pt2').module()\nrun = lambda x: module(x)[0]",
    "onnx": (
        "import onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx')\n"
        "run = lambda x: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])"
    ),
    "state-dict": (
        "sys.path.insert(0, sys.argv[1])\nfrom model import load_model\nrun = load_model()\n"
        "print(type(run).__module__, run.training)"
    ),
}
SCRIPT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ours!r}:
            raise ImportError("the export needs " + name)
sys.meta_path.insert(0, Blocked())
import torch
from safetensors.torch import load_file, save_file
{loader}
inputs = load_file(sys.argv[2])
with torch.no_grad():
    save_file({{name: run(x).contiguous() for name, x in inputs.items()}}, sys.argv[3])
found = [m for m in sys.modules if m.split(".")[0] in {ours!r}]
assert not found, found
"""


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return Run(finished)


@pytest.fixture(scope="module")
def subnet(run: Run) -> tuple[Record, nn.Module]:
    """The knee, as the run evaluated it."""
    record = run.select("knee")
    net, config = run.supernet().eval(), run.config.evaluation
    with net.activated(record.arch):
        calibration = run.task().calibration_inputs(config.batch_size, config.calibration_size)
        net.recalibrate(net.fit_inputs(i) for i in calibration)
        return record, net.extract(record.arch).eval()


def _images(record: Record, n: int) -> Tensor:
    size = int(record.arch["resolution"])
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(n))


@pytest.fixture(scope="module", params=sorted(FILES))
def exported(run: Run, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = str(request.param)
    folder = tmp_path_factory.mktemp("exports") / name
    result = export(run, "knee", name, folder)
    assert result.folder == folder
    assert result.max_difference <= TOLERANCE[name]
    return name, folder


def test_the_formats() -> None:
    assert sorted(list_exports()) == sorted([*FILES, "timm", "transformers"])
    assert all(list_exports().values())


def test_an_export_loads_without_us_and_equals_the_subnet(
    exported: tuple[str, Path], subnet: tuple[Record, nn.Module], tmp_path: Path
) -> None:
    name, folder = exported
    record, module = subnet
    inputs = {str(n): _images(record, n) for n in BATCHES}
    save_file(inputs, tmp_path / "inputs.safetensors")
    script = SCRIPT.format(ours=OURS, loader=LOADERS[name])
    arguments = [str(folder), str(tmp_path / "inputs.safetensors"), str(tmp_path / "outputs.safetensors")]
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", script, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = load_file(tmp_path / "outputs.safetensors")
    for n, images in inputs.items():
        with torch.no_grad():
            expected = module(images)
        assert outputs[n].shape == expected.shape == (int(n), 10)
        torch.testing.assert_close(outputs[n], expected, rtol=TOLERANCE[name], atol=TOLERANCE[name])
    if name == "state-dict":  # an ordinary class of its library, ready to be used
        module_name, training = done.stdout.split()
        assert module_name.split(".")[0] in ("torchvision", "torch", "timm")
        assert training == "False"
    assert outputs["5"].std() > 0  # an output that does not depend on the input would prove nothing


def test_the_card_says_what_it_is(exported: tuple[str, Path], run: Run) -> None:
    name, folder = exported
    assert sorted(p.name for p in folder.iterdir()) == sorted(["README.md", "card.json", *FILES[name]])
    card = json.loads((folder / "card.json").read_text())
    record = run.select("knee")
    assert (card["format"], card["subnet"], card["space"]) == (name, record.id, "mobilenetv3-tiny")
    assert card["architecture"] == record.arch
    assert card["metrics"]["search_split"] == record.values
    assert card["metrics"]["report_split"] == record.report != {}
    assert card["metrics"]["remeasured"] == record.remeasured != {}
    assert card["constraints"] == [str(c) for c in run.goal.constraints] != []
    assert card["objectives"] == ["top1:max", "latency_ms:min"]
    assert card["command"] == "nassearch run …"
    assert card["devices"]["latency_ms"]["setting"]["backend"] == "eager"
    assert card["devices"]["latency_ms"]["device"]["fingerprint"]
    (described,) = card["inputs"].values()
    assert described == {"shape": ["batch", 1, *[record.arch["resolution"]] * 2], "dtype": "float32"}
    assert card["max_difference_to_subnet"] <= card["tolerance"] == TOLERANCE[name]
    assert card["versions"]["torch"]
    text = (folder / "README.md").read_text()
    assert "Preprocessing: pixels 0-255 as float32, less" in text
    assert "Outputs: `0`, `1`" in text
    for part in (
        f"# Subnet {record.id}",
        "```python",
        f"{record.values['latency_ms']:.4g}",
        "cpu:eager,batch=1",
        "report split",
    ):
        assert part in text
    for constraint in card["constraints"]:
        assert f"`{constraint}`" in text
    active = dict(zip(record.arch, run.space.active(np.array([record.row]))[0], strict=True))
    assert card["active_genes"] == [gene for gene, used in active.items() if used]
    for gene, used in active.items():
        assert (f"`{gene}`" in text) == used


# -- what is refused ---------------------------------------------------------------------------------


class _Wrong(TorchProgram):
    """Writes another network than it was given."""

    def write(self, subject: Subject, folder: Path) -> None:
        super().write(Subject(_Shifted(subject.module), subject.example, subject.source), folder)


class _Shifted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x) + 1e-3


class _Flat(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)[:, :3]


class _OtherShape(TorchProgram):
    def write(self, subject: Subject, folder: Path) -> None:
        super().write(Subject(_Flat(subject.module), subject.example, subject.source), folder)


class _Failing(TorchProgram):
    def write(self, subject: Subject, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no space left")


@pytest.mark.parametrize(
    ("broken", "message"),
    [(_Wrong, "differ from the subnet's by 0.001"), (_OtherShape, "gives shapes"), (_Failing, "no space left")],
)
def test_an_export_that_is_not_the_subnet_is_refused_and_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: type[TorchProgram], message: str
) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    register_export("broken", "not the subnet")(broken)
    out = tmp_path / "deep" / "model"
    with pytest.raises((ExportError, RuntimeError), match=message):
        export(Run(run_folder), "knee", "broken", out)
    assert list(out.parent.iterdir()) == []
    if broken is _Failing:
        with pytest.raises(RuntimeError, match=message):
            export(Run(run_folder), "knee", "broken")
    assert not [p for p in (run_folder / "exports").iterdir() if "broken" in p.name]


def test_a_folder_that_holds_files_is_not_touched(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "mine", tmp_path / "file"):
        with pytest.raises(ConfigError, match="exists and is not an empty folder"):
            export(run, "knee", "torch", out)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_is_used_and_an_export_of_the_run_is_replaced(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert export(Run(run_folder), "knee", "torch", tmp_path / "empty").files[0] == "README.md"
    first = export(Run(run_folder), "knee", "torch")
    (first.folder / "old").write_text("old")
    again = export(Run(run_folder), "knee", "torch")
    assert again.folder == first.folder
    assert not (again.folder / "old").exists()


def test_unknown_formats_are_named(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"unknown export format 'onx'; did you mean 'onnx'\?"):
        export(run, "knee", "onx")


def test_a_format_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register_export("torch", "again")(TorchProgram)
