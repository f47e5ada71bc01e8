"""`nassearch doctor`: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import json

import pytest

from nassearch import doctor
from nassearch.cli import _run
from nassearch.doctor import Finding, examine


def test_every_part_is_examined() -> None:
    findings = {f.name: f for f in examine()}
    assert list(findings) == ["Python", "PyTorch", "CUDA", "ONNX", "torch.compile", "Ray", "CPU", "disk"]
    assert findings["PyTorch"].state == findings["Python"].state == "ok"
    for f in findings.values():
        assert f.detail
        assert f.state == "ok" or f.fix


def test_a_check_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def _ray() -> Finding:
        raise OSError("libray.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "_ray", _ray)
    (found,) = [f for f in examine() if f.name == "ray"]
    assert found.state == "broken"
    assert "libray.so" in found.detail
    assert found.fix


def test_missing_onnx_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda n: None if n == "onnxscript" else find(n))
    (found,) = [f for f in examine() if f.name == "ONNX"]
    assert (found.state, found.detail) == ("missing", "not installed: onnxscript")
    assert "pip install 'nassearch[onnx]'" in found.fix


def test_a_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    (found,) = [f for f in examine() if f.name == "torch.compile"]
    assert found.state == "missing"
    assert "g++" in found.fix


def test_a_ray_address_without_a_token_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (found,) = [f for f in examine() if f.name == "Ray"]
    assert "no token" in found.detail
    assert "ray get-auth-token --generate" in found.fix


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("busy", 0), ("missing", 0), ("broken", 1)])
def test_exit_codes_and_both_forms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("disk", state, "1 GB free", "free [some] space")])  # type: ignore[arg-type]
    assert _run(["doctor"], debug=False) == code
    assert "free [some] space" in capsys.readouterr().out
    assert _run(["doctor", "--json"], debug=False) == code
    assert json.loads(capsys.readouterr().out) == [
        {"name": "disk", "state": state, "detail": "1 GB free", "fix": "free [some] space"}
    ]
