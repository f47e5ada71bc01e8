import contextlib
import io
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from predictors.errors import MeasurementError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

from predictors.backends import export_onnx  # noqa: E402


class Encoder(nn.Module):
    """Nested outputs and keyword inputs, as transformers' modules have."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 8), nn.Linear(8, 5)

    def forward(self, input_ids, attention_mask=None):
        h = self.embed(input_ids) * attention_mask[..., None]
        return {"scores": self.head(h), "cache": [(h, h + 1)], "loss": None}


def run(model, **feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {k: v.numpy() for k, v in feeds.items()})


def axes(values):
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_open_dimensions_names_and_nested_outputs():
    net = Encoder()
    given = {"attention_mask": torch.ones(1, 1), "input_ids": torch.zeros(1, 1, dtype=torch.long)}
    model = export_onnx(net, given, dynamic_batch=True, dynamic_sequence=True)
    assert axes(model.graph.input) == {"attention_mask": ["batch", "sequence"], "input_ids": ["batch", "sequence"]}
    assert axes(model.graph.output) == {
        "scores": ["batch", "sequence", 5],
        "cache_0_0": ["batch", "sequence", 8],
        "cache_0_1": ["batch", "sequence", 8],
    }
    ids, mask = torch.randint(0, 10, (3, 7)), torch.ones(3, 7)
    scores, first, second = run(model, input_ids=ids, attention_mask=mask)
    want = net(ids, mask)
    torch.testing.assert_close(torch.from_numpy(scores), want["scores"].detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(second), want["cache"][0][1].detach(), rtol=1e-5, atol=1e-5)
    assert first.shape == (3, 7, 8)


def test_written_in_eval_mode_without_noise_and_loads_without_us(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)).train()
    path = tmp_path / "deep" / "net.onnx"
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(record=True) as caught,
    ):
        model = export_onnx(net, (torch.zeros(1, 1, 8, 8),), path, dynamic_batch=True)
    assert (out.getvalue(), err.getvalue(), caught) == ("", "", [])
    assert net.training
    assert {o.domain: o.version for o in model.opset_import}[""] == 18
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]
    onnx.checker.check_model(onnx.load(path))
    x = torch.randn(3, 1, 8, 8)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, numpy, onnxruntime as o; s = o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']);"
        "i = s.get_inputs()[0]; assert i.shape[0] == 'batch', i.shape;"
        "y = s.run(None, {i.name: numpy.zeros((5, 1, 8, 8), 'float32')}); assert y[0].shape == (5, 3);"
        "assert not {'torch', 'predictors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=tmp_path)
    (y,) = run(model, **{model.graph.input[0].name: x})
    torch.testing.assert_close(torch.from_numpy(y), net.eval()(x).detach(), rtol=1e-5, atol=1e-5)


def test_weights_of_several_dtypes_are_kept():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(2, dtype=torch.float16))
            self.register_buffer("scale", torch.tensor([1.0, 3.0]))

        def forward(self, x):
            return x * self.w.float() * self.scale

    (y,) = run(export_onnx(Mixed(), (torch.ones(1, 2),)), x=torch.ones(1, 2))
    assert y.tolist() == [[1.0, 3.0]]


def test_failures_are_named():
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(MeasurementError, match="Branches cannot be converted to ONNX"):
        export_onnx(Branches(), (torch.ones(1, 2),))

    class Odd(nn.Module):
        def forward(self, x):
            return x.tolist()

    with pytest.raises(MeasurementError, match="the module returns a float"):
        export_onnx(Odd(), (torch.ones(2),))
