import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.backends import list_backends
from predictors.backends.registry import backend_entry
from predictors.errors import InvalidSetting
from predictors.measurement import LatencySetting

positive = st.integers(1, 10**6)
optional = st.none() | positive
names = st.none() | st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@st.composite
def latency_settings(draw):
    entry = backend_entry(draw(st.sampled_from(["eager", "cudagraph", "compile", "onnxruntime"])))
    device = draw(st.sampled_from(entry.devices))
    if device == "cuda":
        device += draw(st.sampled_from(["", ":0", ":3"]))
    return LatencySetting(
        device=device,
        backend=entry.name,
        batch=draw(positive),
        threads=draw(st.integers(1, 1024)),
        dtype=draw(st.sampled_from(entry.dtypes)),
        resolution=draw(optional),
        sequence=draw(optional),
        budget_ms=draw(optional),
        name=draw(
            names.filter(lambda n: n not in ("batch", "threads", "dtype", "resolution", "sequence", "budget_ms"))
        ),
    )


@settings(deadline=None)
@given(latency_settings())
def test_text_and_json_round_trip(setting):
    assert LatencySetting.parse(str(setting)) == setting
    assert LatencySetting.from_json(setting.to_json()) == setting


@settings(deadline=None)
@given(st.text(max_size=40) | st.text(alphabet="cpuda:eagr,=12batch ", max_size=40))
def test_any_text_parses_or_is_refused_as_a_setting(text):
    try:
        setting = LatencySetting.parse(text)
    except InvalidSetting:
        return
    assert LatencySetting.parse(str(setting)) == setting


def test_defaults():
    expected = LatencySetting(device="cpu", backend="eager", batch=1, threads=1, dtype="float32")
    assert LatencySetting() == expected
    assert LatencySetting.parse("cpu") == expected
    assert str(expected) == "cpu:eager,batch=1,threads=1,dtype=float32"


def test_examples():
    s = LatencySetting.parse("cpu:onnxruntime,batch=1,threads=1")
    assert (s.device, s.backend, s.metric) == ("cpu", "onnxruntime", "latency_ms")
    s = LatencySetting.parse(" xeon = cpu:eager , threads=2 ")
    assert (s.name, s.threads, s.metric) == ("xeon", 2, "latency_ms@xeon")
    s = LatencySetting.parse("cuda:1:cudagraph,dtype=float16")
    assert (s.device, s.backend, s.device_type, s.dtype) == ("cuda:1", "cudagraph", "cuda", "float16")


def test_all_faults_come_together():
    with pytest.raises(InvalidSetting) as e:
        LatencySetting.parse("1x=cpu:onxruntime,threds=2,batch=0,dtype=float3,batch=1,oops")
    text = str(e.value)
    assert len(e.value.faults) == 7
    for part in ("1x", "did you mean 'onnxruntime'", "did you mean 'threads'", "batch=0", "twice", "float32", "'oops'"):
        assert part in text
    assert "allowed keys: batch, threads, dtype, resolution, sequence, phase, experts, clock, budget_ms" in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no device"),
        ("eager", "did you mean 'cpu:eager'?"),
        ("cpi:eager", "did you mean 'cpu'"),
        ("cpu:", "no backend after"),
        ("cpu:cudagraph", "does not run on cpu"),
        ("cuda:onnxruntime", "does not run on cuda"),
        ("cpu:onnxruntime,dtype=bfloat16", "does not run bfloat16"),
        ("cpu:eager,threads=1.5", "threads=1.5 must be a whole number"),
        ("cpu:eager,batch=-1", "batch=-1 must be a whole number"),
        ("batch=2", "comes after the device"),
    ],
)
def test_faults_name_the_remedy(text, part):
    with pytest.raises(InvalidSetting, match="latency setting") as e:
        LatencySetting.parse(text)
    assert part in str(e.value)


def test_fields_are_checked_without_text_too():
    with pytest.raises(InvalidSetting, match="2 faults"):
        LatencySetting(threads=0, backend="none")
    with pytest.raises(InvalidSetting, match="did you mean 'threads'"):
        LatencySetting.from_json({"device": "cpu", "thread": 1})


def test_settings_and_backends_are_listed_without_torch():
    code = (
        "import sys; from predictors.measurement import LatencySetting; from predictors.backends import list_backends;"
        "LatencySetting.parse('cpu:onnxruntime'); list_backends(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert {"eager", "cudagraph", "compile", "onnxruntime"} <= set(list_backends())


def test_a_clock_of_the_processor_is_of_one_thread_of_a_cpu():
    setting = LatencySetting.parse("cpu:eager,clock=cpu")
    assert LatencySetting.parse(str(setting)) == LatencySetting.from_json(setting.to_json()) == setting
    assert setting != LatencySetting.parse("cpu:eager")
    for text, message in (
        ("cpu:eager,clock=sun", "unknown clock 'sun'; allowed: cpu"),
        ("cpu:eager,clock=cpu,threads=2", "give threads=1"),
        ("cuda:eager,clock=cpu", "does not see what a GPU does"),
    ):
        with pytest.raises(InvalidSetting, match=message):
            LatencySetting.parse(text)
