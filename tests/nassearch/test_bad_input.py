"""Bad input ends with exit 2, a message that says what to do, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nassearch.cli import main

Fails = Callable[..., str]


# -- flags -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--space", "mobilenetv3-tny"], ["'mobilenetv3-tny'", "did you mean 'mobilenetv3-tiny'"]),
        (["--task", "digit"], ["unknown task 'digit'", "did you mean 'digits'", "imagefolder:"]),
        (["--task", "digits:trian=5"], ["no option 'trian'", "did you mean 'train'"]),
        (["--strategy", "lnias"], ["unknown strategy 'lnias'", "did you mean 'linas'", "nsga2"]),
        (["-o", "tpo1:max"], ["unknown metric 'tpo1'", "did you mean 'top1'", "latency_ms"]),
        (["--executor", "locl"], ["unknown executor 'locl'", "did you mean 'local'", "ray"]),
        (["--export-format", "onx"], ["unknown export format 'onx'", "did you mean 'onnx'", "state-dict"]),
        (["--train", "sandwitch"], ["unknown training method 'sandwitch'", "did you mean 'sandwich'", "none"]),
        (["-o", "params_m:upward"], ["'upward'", "max", "min"]),
        (["-o", "params_m"], ["'params_m'", "max", "min"]),
        (["-o", "top1:min"], ["top1"]),
        (["--num-evals", "0"], ["num_evals", "greater than 0", "got 0"]),
        (["--num-evals", "-4"], ["num_evals", "greater than 0", "got -4"]),
        (["--batch-size", "0"], ["batch_size", "greater than 0"]),
        (["--seed", "-1"], ["seed", "greater than or equal to 0"]),
        (["--seed", "99999999999999999999"], ["seed", "less than 4294967296"]),
        (["--threads", "100000"], ["executor.threads", "less than or equal to 1024"]),
        (["--timeout", "nan"], ["executor.timeout_s", "greater than 0"]),
        (["--latency", "cpu:eager,threads=100000"], ["threads=100000", "at most 1024"]),
        (["-o", "latency_ms:min", "--latency", "cpu:eager,sequence=128"], ["sequence=128", "have no sequence"]),
        (["--executor", "ray", "--ray-address", "127.0.0.1:1"], ["no Ray cluster answers at '127.0.0.1:1'"]),
        (
            ["--executor", "ray", "--ray-address", "ray://127.0.0.1:1"],
            ["no Ray cluster answers at 'ray://127.0.0.1:1'"],
        ),
        (["-c", "macs_m =< 3"], ["constraint 'macs_m =< 3'", "unknown comparison '=<'", "macs_m", "for example"]),
        (["-c", "macs_m"], ["constraint 'macs_m' has no comparison"]),
        (["-c", "macs_m <= 3 million"], ["'million'", "not understood"]),
        (["-c", "mcas_m <= 3"], ["unknown metric 'mcas_m'", "did you mean 'macs_m'"]),
        (["-c", "macs_m <= 0.001"], ["macs_m <= 0.001", "cannot be met", "for the smallest", "for the largest"]),
        (["-c", "macs_m >= 200% of largest"], ["cannot be met", "for the smallest", "for the largest"]),
        (["-c", "top1 >= 101"], ["top1 >= 101", "cannot be met", "between 0 and 100"]),
        (
            ["-c", "latency_ms <= 0.000001", "--latency", "cpu:eager,budget_ms=10"],
            ["latency_ms <= 1e-06", "cannot be met", "for the smallest", "(measured)"],
        ),
        (["--latency", "cpu:eagr"], ["unknown backend 'eagr'", "did you mean 'eager'", "onnxruntime"]),
        (["--latency", "gpu:eager"], ["unknown device 'gpu'", "cpu, cuda"]),
        (["--latency", "cpu:eager,batch=0,thread=2"], ["batch=0", "unknown key 'thread'", "did you mean 'threads'"]),
        (["--latency", "cpu:eager", "--latency", "cpu:eager,batch=8"], ["given twice", "name them"]),
        (["-o", "latency_ms@pi:min"], ["'latency_ms@pi'", "latency setting 'pi'", "--latency pi="]),
        (["--set", "strategy_options.populaton=3"], ["no option 'populaton'"]),
        (["--set", "train.settings.epoch=3"], ["'train.settings.epoch'", "did you mean 'epochs'"]),
        (["--set", "train.setings.epochs=3"], ["'train.setings'", "did you mean 'settings'"]),
        (["--set", "train.settings.lr=-1"], ["lr"]),
        (["--set", "train.settings.options=3"], ["train.settings.options", "mapping"]),
        (["--set", "train.options.random_subnet=3"], ["'random_subnet'", "did you mean 'random_subnets'"]),
        (["--set", "executr.name=ray"], ["unknown setting 'executr'", "did you mean 'executor'"]),
        (["--set", "num_evals"], ["'num_evals' is not of the form a.b=value"]),
        (["--set", "model_options.num_clases=3"], ["no option 'num_clases'", "did you mean 'num_classes'"]),
        (["--mixture", "neural"], ["mixture must be one of none, layer, neuron", "'neural'"]),
        (["--mixture", "layer", "--experts", "0"], ["experts must be an integer from 1"]),
        (["--experts", "2"], ["belong to a mixture"]),
        (["--export", "kne"], ["'kne' is no subnet", "did you mean 'knee'"]),
        (["--export", "best-tpo1"], ["metric 'tpo1' is not evaluated", "did you mean 'top1'"]),
        (["--export", "best-latency_ms"], ["metric 'latency_ms' is not evaluated"]),
        (["--export", "6"], ["ids go from 1", "5"]),
        (["--export", "fastest"], ["--export fastest needs a measured latency"]),
        (["--export", "latency_ms <= 2"], ["metric 'latency_ms' is not evaluated"]),
        (["--export", "macs_m <= x"], ["'x' does not start with a number"]),
        (["--plugin", "no_such_module"], ["plugin 'no_such_module' cannot be imported"]),
        (["--checkpoint", "no.pth"], ["--checkpoint no.pth does not exist"]),
        (["--supernet", "no-folder"], ["--supernet no-folder does not exist"]),
        (["--supernet", "."], ["holds no supernet"]),
        (["--config", "no.yaml"], ["configuration file no.yaml does not exist"]),
        (["--num-evals", "many"], ["Invalid value for '--num-evals'"]),
        (["--no-such-flag"], ["No such option", "--no-such-flag"]),
    ],
    ids=lambda x: "_".join(x)[:40] if isinstance(x, list) and x and x[0].startswith("-") else "",
)
def test_a_wrong_flag_is_refused_and_named(base: list[str], fails: Fails, flags: list[str], parts: list[str]) -> None:
    fails(base + flags, *parts)


def test_a_latency_that_cannot_be_measured_here_is_refused(base: list[str], fails: Fails) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    fails([*base, "-o", "latency_ms:min", "--latency", "cuda:eager"], "latency_ms cannot be measured as cuda:eager")
    fails([*base, "--set", "evaluation.device=cuda:3"], "evaluation.device=cuda:3 cannot be used", "no CUDA device")


def test_all_faults_come_at_once(base: list[str], fails: Fails) -> None:
    flags = ["--space", "mobilenet", "--strategy", "lina", "--task", "digit", "-o", "top1:upward", "-c", "macs_m = 3"]
    flags += ["--latency", "cpu:eagr", "--export-format", "onx", "--train", "sandwitch", "--checkpoint", "no.pth"]
    message = fails(base + flags)
    assert message.startswith("Error: 9 things need your attention:")
    for part in ("mobilenet'", "'lina'", "'digit'", "'upward'", "macs_m = 3", "eagr", "onx", "sandwitch", "no.pth"):
        assert part in message


def test_missing_settings_are_named_with_their_flags(fails: Fails) -> None:
    message = fails(["run", "--out", "out"])
    for flag in ("--space NAME", "--task NAME", "--objective METRIC:max|min"):
        assert flag in message


def test_debug_shows_the_traceback(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from nassearch.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown strategy"):
        main([*base, "--strategy", "nope", "--debug"])
    with pytest.raises(SystemExit) as ended:
        main([*base, "--strategy", "nope"])
    assert ended.value.code == 2


# -- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("space: [1,\n", ["run.yaml, line 2", "not valid YAML"]),
        ("- a\n", ["run.yaml", "a mapping of settings is needed", "got list"]),
        ("space: x\nspce: y\nnum_evals: 0\ntrain: {epochs: 2}\n", ["'spce'", "num_evals", "'train.epochs'", "'task'"]),
        ("a: !!python/object/apply:os.system ['true']\n", ["not valid YAML"]),
        ("objectives: top1:max\n", ["objectives", "list"]),
    ],
)
def test_a_wrong_configuration_file_is_refused(fails: Fails, tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "run.yaml").write_text(text)
    fails(["run", "--config", "run.yaml"], *parts)


def test_a_checkpoint_that_is_none_is_refused(base: list[str], fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("not a checkpoint")
    message = fails([*base, "--checkpoint", "notes.pth"])
    assert "has no option 'checkpoint'" in message
    colour = tmp_path / "colour"
    for name in ("a", "b"):
        (colour / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 16), (i, 0, 0)).save(colour / name / f"{i}.png")
    ofa = ["--space", "ofa-mobilenetv3-w1.0", "--task", "imagefolder:colour"]
    fails([*base, *ofa, "--checkpoint", "notes.pth"], "notes.pth", "not a readable torch checkpoint")


def test_a_supernet_that_does_not_fit_is_refused(base: list[str], fails: Fails, tmp_path: Path, finished: Path) -> None:
    saved = ["--supernet", str(finished / "supernet")]
    fails([*base, *saved, "--space", "ofa-mobilenetv3-w1.0"], "holds a supernet of space 'mobilenetv3-tiny'")
    fails([*base, *saved, "--mixture", "layer"], "trained already and cannot have mixture=layer (it has none)")
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "three.npz", images=rng.integers(0, 255, (90, 16, 16), dtype=np.uint8), labels=np.arange(90) % 3
    )
    fails([*base, *saved, "--task", "npz:three.npz"], "num_classes=10, the task needs num_classes=3")
    for option in ("num_classes=3", "in_channels=3"):
        fails([*base, "--set", f"model_options.{option}"], f"it has {option}, the task needs")
    # A space without the option says what its inputs are.
    fails([*base, "--space", "ofa-mobilenetv3-w1.0"], "in_channels=3, the task needs in_channels=1")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda d: None, ["data", "does not exist"]),
        (lambda d: d.mkdir(), ["data"]),
        (lambda d: d.write_text("x"), ["data"]),
        (lambda d: _photos(d), ["data/b/3.png"]),
    ],
    ids=["missing", "empty", "a file", "unreadable image"],
)
def test_bad_data_are_refused(
    base: list[str], fails: Fails, tmp_path: Path, make: Callable[[Path], None], parts: list[str]
) -> None:
    make(tmp_path / "data")
    fails([*base, "--task", "imagefolder:data,image_size=16"], *parts)


def _photos(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            Image.new("L", (16, 16), i).save(folder / name / f"{i}.png")
    (folder / "b" / "3.png").write_bytes(b"no image at all")


# -- reading commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (["export", "--subnet", "kne"], ["unknown subnet 'kne'", "did you mean 'knee'"]),
        (["export", "--subnet", "best-tpo1"], ["metric 'tpo1' was not evaluated", "did you mean 'top1'"]),
        (["export", "--subnet", "9999"], ["no successful evaluation has id 9999", "the front has"]),
        (["export", "--subnet", "latency_ms <= 0.0001"], ["no front member meets", "goes from"]),
        (["export", "--format", "onx"], ["unknown export format 'onx'", "did you mean 'onnx'"]),
        (["evaluate", "--split", "train"], ["'train' is not a split"]),
        (["evaluate", "--latency", "cpu:eagr"], ["unknown backend 'eagr'"]),
        (["evaluate", "--subnet", "kne"], ["unknown subnet"]),
        (["plot", "--x", "mcas_m", "--out", "x.png"], ["mcas_m", "did you mean 'macs_m'"]),
        (["plot", "--out", "x.doc"], ["x.doc"]),
    ],
    ids=lambda x: "_".join(x)[:40] if isinstance(x, list) and x[0].islower() and len(x) > 2 else "",
)
def test_wrong_flags_of_the_reading_commands_are_refused(
    fails: Fails, run_folder: Path, command: list[str], parts: list[str]
) -> None:
    fails([command[0], str(run_folder), *command[1:]], *parts)


def test_unknown_spaces_are_refused(fails: Fails) -> None:
    fails(["spaces", "mobilenetv3-tny"], "did you mean 'mobilenetv3-tiny'")
    fails(["profile", "--space", "mobilenetv3-tny", "--task", "digits"], "did you mean 'mobilenetv3-tiny'")
