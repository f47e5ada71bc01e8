from __future__ import annotations

import subprocess
import sys

import pytest

from nassearch.errors import ConfigError
from nassearch.tasks import from_payload, list_tasks, make_task, register_task, registry
from nassearch.tasks.options import Option, parse_options, split_options


def test_listing_and_its_start_up_need_no_torch() -> None:
    code = (
        "import sys; from nassearch.tasks import list_tasks; print(*[t.name for t in list_tasks()]);"
        "assert not {'torch', 'sklearn', 'torchvision'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    images = ["cifar10", "digits", "hf", "imagefolder", "npz", "torchvision"]
    texts = ["causal-lm", "image-text-classification", "text-classification", "translation"]
    assert out.split() == sorted([*images, *texts])


def test_entries_say_what_they_are() -> None:
    for entry in list_tasks():
        assert entry.summary
        assert entry.usage.startswith(entry.name)
        assert all(option.help for option in entry.options)


@pytest.mark.parametrize(
    ("given", "suggested"),
    [("digit", "digits"), ("image-folder:/x", "imagefolder"), ("cifar:/x", "cifar10")],
)
def test_unknown_task_suggests_the_nearest(given: str, suggested: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{suggested}'"):
        make_task(given)


@pytest.mark.parametrize(
    ("rest", "argument", "texts"),
    [
        ("train=600,noise=0.6", "", ["train=600", "noise=0.6"]),
        ("/data/a,b,image_size=32", "/data/a,b", ["image_size=32"]),
        ("C:\\data:train=5:seed=1", "C:\\data", ["train=5", "seed=1"]),
        ("a.npz,b.npz", "a.npz,b.npz", []),
        ("user/name:config,revision=main", "user/name:config", ["revision=main"]),
        ("", "", []),
    ],
)
def test_split_options(rest: str, argument: str, texts: list[str]) -> None:
    assert split_options(rest) == (argument, texts)


def test_all_option_faults_come_together() -> None:
    with pytest.raises(ConfigError) as raised:
        make_task("digits:trian=5,noise=loud,shift=-1,draws=2,draws=3,train=6.5,noise=nan")
    text = "\n".join(raised.value.faults)
    assert len(raised.value.faults) == 6
    assert "no option 'trian'; did you mean 'train'?" in text
    assert "option noise=loud: a number is needed" in text
    assert "option shift=-1: at least 0 is needed" in text
    assert "option 'draws' is given twice" in text
    assert "option train=6.5: a whole number is needed" in text


def test_option_kinds() -> None:
    options = (
        Option("flag", "bool", False, ""),
        Option("word", "str", "a", "", choices=("apple", "pear")),
        Option("part", "float", 0.5, "", maximum=1),
    )
    assert parse_options("t", ["flag=yes", "word=pear"], options) == {"flag": True, "word": "pear", "part": 0.5}
    with pytest.raises(ConfigError) as raised:
        parse_options("t", ["flag=maybe", "word=aple", "part=nan"], options)
    assert [f.split(": ", 2)[2] for f in raised.value.faults] == [
        "allowed are true and false",
        "allowed are apple, pear; did you mean 'apple'?",
        "at most 1 is allowed",
    ]


def test_argument_missing_or_not_wanted() -> None:
    with pytest.raises(ConfigError, match="write imagefolder:DIR"):
        make_task("imagefolder")
    with pytest.raises(ConfigError, match="takes options only"):
        make_task("digits:/data")


def test_register_refuses_a_taken_or_odd_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    list_tasks()
    with pytest.raises(ConfigError, match="'digits' is registered already"):
        register_task("digits")(lambda request: None)
    with pytest.raises(ConfigError, match="cannot be named"):
        register_task("my:task")(lambda request: None)


def test_own_task(monkeypatch: pytest.MonkeyPatch) -> None:
    list_tasks()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @register_task("mine", usage="mine:WHAT", options=[Option("n", "int", 3, "how many")])
    def build(request):
        """My task."""
        return request

    request = make_task("mine:this,n=4", seed=7)
    assert (request.argument, request.options, request.seed) == ("this", {"n": 4}, 7)


def test_payload_of_an_unregistered_task() -> None:
    with pytest.raises(ConfigError, match="'theirs', which is not registered"):
        from_payload({"task": "theirs"}, {})
