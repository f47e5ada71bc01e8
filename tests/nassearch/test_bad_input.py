"""Bad input ends with exit 2, a message that says what to do, and nothing written."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from nassearch.cli import _run, main
from nassearch.store import Store
from search_spaces import Gene, SearchSpace

Fails = Callable[..., str]


@pytest.fixture
def base(small_task: str) -> list[str]:
    return [
        *("run", "--space", "mobilenetv3-tiny", "--task", small_task, "-o", "top1:max", "-o", "macs_m:min"),
        *("--num-evals", "5", "--batch-size", "5", "--strategy", "random", "--out", "out"),
    ]


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must be refused; returns its message, on one line."""
    monkeypatch.chdir(tmp_path)

    def run(argv: list[str], *parts: str) -> str:
        before = _contents(tmp_path)
        assert _run(argv, debug=False) == 2
        out, error = capsys.readouterr()
        assert "Traceback" not in out + error
        assert _contents(tmp_path) == before, "something was written"
        message = " ".join(error.split())
        for part in parts:
            assert part in message
        return message

    return run


def _contents(folder: Path) -> dict[Path, bytes | None]:
    """Everything in a folder but the lock, and what SQLite keeps while a store is open."""
    temporary = (".lock", "evaluations.sqlite-shm", "evaluations.sqlite-wal")
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.name not in temporary}


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


# -- warm start --------------------------------------------------------------------------------------


@pytest.fixture
def warm(finished: Path) -> list[str]:
    return [
        *("run", "--warm-start", str(finished), "-o", "top1:max", "-o", "latency_ms@b:min", "--latency"),
        *("b=cpu:eager,batch=2,budget_ms=10", "--num-evals", "4", "--strategy", "random", "--out", "out"),
    ]


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--reuse", "top2"], ["--reuse 'top2' is no metric of this run", "did you mean 'top1'", "accuracy"]),
        (["--reuse", "params_m"], ["--reuse params_m", "computed and costs nothing"]),
        (["--reuse", "latency_ms@b"], ["has no 'latency_ms@b'; it has", "latency_ms"]),
        (["--reuse", "accuracy", "--seed", "5"], ["seed 0", "seed 5", "give the same --task and --seed"]),
        (["--reuse", "accuracy", "--train", "sandwich"], ["other supernet weights", "leave --supernet"]),
        (["--reuse", "top1", "--set", "evaluation.calibration_size=32"], ["evaluated with", "calibration_size=32"]),
        (["--warm-start", "nowhere"], ["--warm-start nowhere: nowhere is not a folder"]),
    ],
    ids=lambda x: "_".join(x)[:40] if isinstance(x, list) and x and x[0].startswith("-") else "",
)
def test_a_warm_start_that_does_not_fit_is_refused(
    warm: list[str], fails: Fails, flags: list[str], parts: list[str]
) -> None:
    fails(warm + flags, *parts)


def test_a_warm_start_from_another_space_is_refused(warm: list[str], fails: Fails, run_folder: Path) -> None:
    for path in run_folder.glob("evaluations.sqlite*"):
        path.unlink()
    Store(run_folder / "evaluations.sqlite", SearchSpace("other", [Gene("a", [1, 2])]), create=True).close()
    warm[2] = str(run_folder)
    fails(warm, "it is of space 'other'", "'mobilenetv3-tiny'", "a warm start needs the same space")


def test_costs_of_another_setting_or_device_are_not_reused(fails: Fails, run_folder: Path) -> None:
    base = ["run", "--warm-start", str(run_folder), "-o", "top1:max", "-o", "latency_ms:min", "--reuse", "latency_ms"]
    base += ["--num-evals", "4", "--out", "out"]
    message = fails([*base, "--latency", "cpu:eager,batch=4,budget_ms=20"], "was measured as", "batch=1", "batch=4")
    assert "the new run measures it as" in message
    db = sqlite3.connect(run_folder / "evaluations.sqlite")
    ((device,),) = db.execute("SELECT device FROM evaluations WHERE id = 1").fetchall()
    theirs = json.loads(device)
    theirs["latency_ms"]["device"]["fingerprint"] = "of another board"
    db.execute("UPDATE evaluations SET device = ? WHERE id = 1", (json.dumps(theirs),))
    db.commit()
    db.close()
    fails([*base, "--latency", "cpu:eager,budget_ms=20"], "of another board", "figures of different devices never mix")


def test_a_warm_start_from_what_is_no_run_is_refused(base: list[str], fails: Fails, tmp_path: Path) -> None:
    fails([*base, "--reuse", "accuracy"], "--reuse accuracy takes values from an earlier run", "--warm-start RUN")
    fails([*base, "--warm-start", "nowhere", "--seed", "0"], "nowhere")
    fails(["run", "--warm-start", "nowhere", "-o", "top1:max"], "--warm-start nowhere has no config.yaml")
    (tmp_path / "run.yaml").write_text("warm_start: old\n")
    fails([*base, "--config", "run.yaml"], "warm_start", "list")


def test_a_warm_start_from_a_run_without_evaluations_is_refused(
    warm: list[str], fails: Fails, run_folder: Path
) -> None:
    warm[2] = str(run_folder)
    with sqlite3.connect(run_folder / "evaluations.sqlite") as db:
        for table in ("evaluations", "finals"):
            db.execute(f"DELETE FROM {table}")
    db.close()
    fails(warm, "it has no successful evaluation yet")


def test_resume_takes_no_warm_start(fails: Fails, run_folder: Path) -> None:
    fails(["run", "--resume", str(run_folder), "--warm-start", str(run_folder)], "--resume goes on with", "warm_start")


# -- folders -----------------------------------------------------------------------------------------


def test_out_that_is_taken_is_refused(base: list[str], fails: Fails, run_folder: Path, tmp_path: Path) -> None:
    fails([*base, "--out", str(run_folder)], "holds a run already", "--resume", "--overwrite")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    fails([*base, "--out", "notes"], "not empty and holds no run")
    fails([*base, "--out", "notes", "--overwrite"], "not overwritten")
    (tmp_path / "file").write_text("mine")
    fails([*base, "--out", "file"], "--out file is a file")
    fails([*base, "--out", "file/run"], "cannot be made", "file is a file")
    fails([*base, "--out", "x" * 300], "cannot be made")
    fails([*base, "--out", str(run_folder), "--dry-run"], "holds a run already")


@pytest.mark.parametrize(
    "flags",
    [["--seed", "3"], ["--space", "x"], ["--set", "num_evals=3"], ["--overwrite"], ["--dry-run"], ["--config", "x"],
     ["--strategy", "random"], ["-o", "top5:max"], ["--export-format", "onnx"]],
    ids=lambda f: f[0],
)  # fmt: skip
def test_resume_with_other_settings_is_refused(fails: Fails, run_folder: Path, flags: list[str]) -> None:
    fails(["run", "--resume", str(run_folder), *flags], "--resume goes on with the settings of")


def test_retrying_without_a_run_is_refused(base: list[str], fails: Fails) -> None:
    fails([*base, "--retry-failed"], "--retry-failed", "--resume DIR")


def test_resume_of_what_is_no_run_is_refused(fails: Fails, tmp_path: Path) -> None:
    fails(["run", "--resume", "nowhere"], "nowhere is not a folder", "--out")
    (tmp_path / "empty").mkdir()
    for command in (["run", "--resume"], ["status"], ["front"], ["report"], ["export"], ["evaluate"], ["plot"]):
        fails([*command, "empty"], "empty has no config.yaml", "no run folder")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _foreign(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_truncate, "damaged"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("hello, this is no store"), "no SQLite file"),
        (_foreign, "no store of nassearch"),
        (lambda p: p.unlink(), "does not exist"),
    ],
    ids=["truncated", "empty", "text", "another database", "missing"],
)
def test_a_store_that_is_not_ours_or_damaged_is_refused(
    fails: Fails, run_folder: Path, damage: Callable[[Path], None], part: str
) -> None:
    for tail in ("-wal", "-shm"):
        (run_folder / f"evaluations.sqlite{tail}").unlink(missing_ok=True)
    damage(run_folder / "evaluations.sqlite")
    for command in (["run", "--resume"], ["status"], ["front", "--json"], ["export"], ["evaluate"]):
        fails([*command, str(run_folder)], part, "evaluations.sqlite")


def test_a_run_folder_of_another_space_is_refused(fails: Fails, run_folder: Path) -> None:
    for path in run_folder.glob("evaluations.sqlite*"):
        path.unlink()
    with Store(run_folder / "evaluations.sqlite", SearchSpace("other", [Gene("a", [1, 2])]), create=True) as store:
        store.set_meta("bounds", {})
    fails(["run", "--resume", str(run_folder)], "belongs to search space 'other'", "'mobilenetv3-tiny'")


def test_a_run_folder_with_a_damaged_manifest_or_configuration_is_refused(fails: Fails, run_folder: Path) -> None:
    manifest = run_folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:50])
    fails(["run", "--resume", str(run_folder)], "manifest.json is missing or damaged")
    manifest.write_text(text)
    (run_folder / "config.yaml").write_text("space: [")
    fails(["run", "--resume", str(run_folder)], "config.yaml", "not valid YAML")
    fails(["status", str(run_folder)], "config.yaml", "not valid YAML")


def test_a_supernet_damaged_on_the_disk_is_refused(fails: Fails, run_folder: Path) -> None:
    (weights,) = (run_folder / "supernet").glob("*.safetensors")
    _truncate(weights)
    for command in (["run", "--resume"], ["evaluate"], ["export"]):
        fails([*command, str(run_folder)], "truncated or damaged")


def test_resume_on_other_data_is_refused(fails: Fails, run_folder: Path) -> None:
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    config["task"] += ",noise=0.3"
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    theirs = json.loads((run_folder / "manifest.json").read_text())["data_fingerprint"]
    fails(["run", "--resume", str(run_folder)], theirs, "restore the data or start a new run")


def _hold(folder: str, ready: object, release: object) -> None:
    from nassearch.folders import locked

    with locked(Path(folder)):
        ready.set()  # type: ignore[attr-defined]
        release.wait(60)  # type: ignore[attr-defined]


def test_a_run_folder_in_use_is_refused(base: list[str], fails: Fails, run_folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(run_folder), ready, release))
    other.start()
    try:
        assert ready.wait(60)
        fails(["run", "--resume", str(run_folder)], "in use by another process")
        fails([*base, "--out", str(run_folder), "--overwrite"], "in use by another process")
        assert _run(["status", str(run_folder)], debug=False) == 0  # reading is always possible
    finally:
        release.set()
        other.join(60)


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
