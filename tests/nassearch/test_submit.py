from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from nassearch.cli import _run
from nassearch.errors import ConfigError, NassearchError, RunFolderError
from nassearch.folders import locked
from nassearch.runs import Run
from nassearch.store import Store
from nassearch.submit import SubmitOptions, attach, submit
from nassearch.submit.archive import archive_names, files_below, pack, sha256, unpack
from nassearch.submit.command import prepare
from nassearch.submit.job import leave
from nassearch.submit.server import JobServer, find_token
from search_spaces import Gene, SearchSpace

OPTIONS = SubmitOptions("http://127.0.0.1:8265", job_id="job-1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make_run(folder: Path, text: str = "space: toy\n") -> Path:
    """Make what looks like a run folder to everyone who may replace or refuse it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text)
    Store(folder / "evaluations.sqlite", SearchSpace("toy", [Gene("w", [1, 2])]), create=True).close()
    return folder


# -- the command -----------------------------------------------------------------------------------------


def test_only_the_files_that_the_command_names_are_sent(here: Path) -> None:
    for name in ("data/cats/1.png", "data/dogs/2.png", "weights.pth", "my_plugin.py", "secret.txt"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x")
    (here / "run.yaml").write_text("task: imagefolder:data,noise=0.1\nplugins: [my_plugin]\n")
    command = prepare(["run", "--config", "run.yaml", "--checkpoint=./weights.pth", "--out", "runs/a"], OPTIONS)
    assert [f.relative_to(here).as_posix() for f in command.files] == [
        "data/cats/1.png",
        "data/dogs/2.png",
        "my_plugin.py",
        "run.yaml",
        "weights.pth",
    ]
    assert command.argv == ("run", "--config", "run.yaml", "--checkpoint=weights.pth", "--out", "runs/a")
    assert (command.folder, command.destination) == ("runs/a", here / "runs/a")


def test_working_dir_is_sent_without_caches_and_other_runs(here: Path) -> None:
    make_run(here / "runs/old")
    for name in ("a.py", ".git/config", "runs/old/front.csv", "pkg/__pycache__/b.pyc"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x")
    (here / "leak").symlink_to("/etc/passwd")
    options = SubmitOptions("http://h:8265", working_dir=Path())
    assert [f.name for f in prepare(["run", "--space", "s"], options).files] == ["a.py"]
    resumed = prepare(["run", "--resume", "runs/old"], options)
    assert [f.name for f in resumed.files] == ["a.py", "config.yaml", "evaluations.sqlite", "front.csv"]
    assert resumed.argv == ("run", "--resume", "runs/old")
    assert resumed.destination == here / "runs/old"


def test_run_folder_without_out_is_named_after_the_job(here: Path) -> None:
    command = prepare(["nassearch", "run", "--space", "s"], OPTIONS)
    assert command.argv[-2:] == ("--out", "runs/job-1")
    assert command.destination == here / "runs/job-1"


def test_run_folder_outside_gets_a_place_in_the_job(here: Path, tmp_path: Path) -> None:
    command = prepare(["run", f"--out={tmp_path}/elsewhere"], OPTIONS)
    assert command.argv == ("run", "--out=runs/elsewhere")
    assert command.destination == tmp_path / "elsewhere"


def test_shared_folders_are_left_alone(here: Path, tmp_path: Path) -> None:
    shared = tmp_path / "mnt"
    options = SubmitOptions("http://h:8265", shared_dirs=(shared,))
    argv = ["run", "--task", f"imagefolder:{shared}/photos", "--out", f"{shared}/runs/1"]
    command = prepare(argv, options)
    assert list(command.argv) == argv
    assert command.files == ()
    assert command.destination is None


def test_what_means_nothing_elsewhere_is_refused_all_at_once(here: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    argv = ["run", "--task", "imagefolder:../photos", "--checkpoint", "none.pth", "--ray-address", "auto"]
    with pytest.raises(ConfigError) as caught:
        prepare([*argv, "--set", "executor.address=auto"], OPTIONS)
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 4
    assert "outside" in faults
    assert "none.pth does not exist" in faults
    assert "--ray-address auto" in faults
    assert "executor.address in --set" in faults


def test_only_run_folders_are_overwritten(here: Path) -> None:
    (here / "thesis").mkdir()
    (here / "thesis/chapter1.tex").touch()
    for flags in ([], ["--overwrite"]):
        with pytest.raises(ConfigError, match=r"thesis .*holds"):
            prepare(["run", "--out", "thesis", *flags], OPTIONS)
    make_run(here / "runs/a")
    with pytest.raises(ConfigError, match=r"holds a run already.*--overwrite"):
        prepare(["run", "--out", "runs/a"], OPTIONS)
    assert prepare(["run", "--out", "runs/a", "--overwrite"], OPTIONS).destination == here / "runs/a"
    with locked(here / "runs/a"), pytest.raises(ConfigError, match="in use"):
        prepare(["run", "--out", "runs/a", "--overwrite"], OPTIONS)


def test_run_folder_is_where_the_configuration_says(here: Path, tmp_path: Path) -> None:
    (here / "run.yaml").write_text("space: s\nout: runs/from-file\n")
    configured = ["run", "--config", "run.yaml"]
    command = prepare(configured, OPTIONS)
    assert command.argv == (*configured, "--out", "runs/from-file")
    assert (command.folder, command.destination) == ("runs/from-file", here / "runs/from-file")
    # A flag wins over the file, an override over the flag; and places that are not sent get another one there.
    assert prepare([*configured, "--out", "runs/flag"], OPTIONS).destination == here / "runs/flag"
    argv = [*configured, "--out", "runs/flag", "--set", f"out={tmp_path}/set"]
    command = prepare(argv, OPTIONS)
    assert command.argv == (*argv[:-1], "out=runs/set")
    assert (command.folder, command.destination) == ("runs/set", tmp_path / "set")
    (here / "run.yaml").write_text(f"out: {tmp_path}/elsewhere\nexecutor: {{name: ray, address: 'ray://h:1'}}\n")
    with pytest.raises(ConfigError, match=r"executor.address in .*run.yaml"):
        prepare(configured, OPTIONS)


def test_a_resumed_run_takes_its_data_along(here: Path) -> None:
    (here / "photos/cats").mkdir(parents=True)
    (here / "photos/cats/1.png").touch()
    make_run(here / "runs/old", "space: s\ntask: imagefolder:photos,noise=0.1\nsupernet: /gone\n")
    command = prepare(["run", "--resume", "runs/old"], OPTIONS)
    assert {f.name for f in command.files} == {"1.png", "config.yaml", "evaluations.sqlite"}
    (here / "empty").mkdir()
    with pytest.raises(ConfigError, match="no run folder"):
        prepare(["run", "--resume", "empty"], OPTIONS)


def test_a_warm_start_takes_the_earlier_run_and_its_data_along(here: Path) -> None:
    for name in ("photos/1.png", "other/2.png"):
        (here / name).parent.mkdir(parents=True)
        (here / name).touch()
    make_run(here / "runs/old", "space: s\ntask: imagefolder:photos\n")
    run = ["run", "--warm-start", "runs/old", "-o", "top1:max"]
    assert {f.name for f in prepare(run, OPTIONS).files} == {"1.png", "config.yaml", "evaluations.sqlite"}
    others = prepare([*run, "--task", "imagefolder:other"], OPTIONS)
    assert {f.name for f in others.files} == {"2.png", "config.yaml", "evaluations.sqlite"}
    (here / "run.yaml").write_text("warm_start: [runs/old]\nobjectives: [top1:max]\n")
    configured = prepare(["run", "--config", "run.yaml"], OPTIONS)
    assert {f.name for f in configured.files} == {"run.yaml", "1.png", "config.yaml", "evaluations.sqlite"}
    (here / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"--warm-start .*no run folder"):
        prepare(["run", "--warm-start", "empty"], OPTIONS)


@pytest.mark.parametrize("argv", [[], ["spaces"], ["--space", "x"]])
def test_only_runs_are_sent(here: Path, argv: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"sends `run` commands"):
        prepare(argv, OPTIONS)


# -- archives --------------------------------------------------------------------------------------------


def test_archive_round_trip_replaces_the_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/a.bin").write_bytes(bytes(range(256)) * 1000)
    (source / "empty").touch()
    pack(files_below(source), source, tmp_path / "1.zip")
    os.utime(source / "empty", (1, 1))
    pack(files_below(source), source, tmp_path / "2.zip")
    assert sha256(tmp_path / "1.zip") == sha256(tmp_path / "2.zip")

    target = make_run(tmp_path / "target")
    unpack(tmp_path / "1.zip", target)
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*")) == ["empty", "sub", "sub/a.bin"]
    assert (target / "sub/a.bin").read_bytes() == (source / "sub/a.bin").read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_archive_never_replaces_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/new").touch()
    pack(files_below(tmp_path / "source"), tmp_path / "source", tmp_path / "1.zip")
    thesis, other = tmp_path / "thesis", tmp_path / "other"
    thesis.mkdir()
    (thesis / "chapter1.tex").touch()
    other.mkdir()
    (other / "config.yaml").touch()  # another program's
    (other / "evaluations.sqlite").touch()
    for folder in (thesis, other):
        with pytest.raises(RunFolderError, match="not replaced"):
            unpack(tmp_path / "1.zip", folder)
        assert not (folder / "new").exists()
    assert (thesis / "chapter1.tex").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    unpack(tmp_path / "1.zip", empty)
    assert (empty / "new").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "..\\escaped", "C:escaped"])
def test_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("fine", "x")
        archive.writestr(name, "x")
    with pytest.raises(RunFolderError, match="nothing was unpacked"):
        unpack(tmp_path / "bad.zip", tmp_path / "inner" / "target")
    assert not [p for p in tmp_path.rglob("*") if "escaped" in p.name or "target" in p.name]


def test_archive_with_a_link_or_damage_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(info, "/etc")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "link.zip").read_bytes()[:20])
    for name in ("link.zip", "cut.zip"):
        with pytest.raises(RunFolderError):
            unpack(tmp_path / name, tmp_path / "target")
        assert not (tmp_path / "target").exists()


def test_note_is_written_even_without_a_run_folder(tmp_path: Path) -> None:
    leave(tmp_path / "missing", "job-1", tmp_path / "logs")
    assert (tmp_path / "logs" / archive_names("job-1")[1]).read_text() == '{"bytes": 0}'


# -- the server ------------------------------------------------------------------------------------------


def test_token_is_found_where_ray_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_token({}) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("from-home\n")
    (tmp_path / "file").write_text("from-file")
    assert find_token({}) == "from-home"
    assert find_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "file")}) == "from-file"
    assert find_token({"RAY_AUTH_TOKEN": "given", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "file")}) == "given"
    assert find_token({"RAY_AUTH_MODE": "disabled"}) is None
    with pytest.raises(ConfigError, match="cannot be read"):
        find_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})


def test_address_must_be_that_of_a_job_server() -> None:
    with pytest.raises(ConfigError, match="http://HOST:8265"):
        JobServer("ray://head:10001")


def test_a_cluster_that_has_just_been_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[object] = [RuntimeError("500: No available agent to submit job, please try again later.")] * 2
    answers += ["job-1", RuntimeError("no such file")]

    class Client:
        def __init__(self, *_: object, **__: object) -> None: ...

        def submit_job(self, **_: object) -> object:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)
    monkeypatch.setattr("nassearch.submit.server._GAP_S", 0.0)
    server = JobServer("http://h:8265")
    assert server.submit() == "job-1"
    with pytest.raises(NassearchError, match="did not take the job: no such file"):
        server.submit()
    monkeypatch.setattr("nassearch.submit.server._STARTING_S", -1.0)
    answers.append(RuntimeError("No available agent"))
    with pytest.raises(NassearchError, match="did not take the job"):
        server.submit()


class FakeServer:
    """Takes a job, and is interrupted while following it."""

    address = "http://h:8265"
    requests: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, address: str) -> None:
        self.address = address

    def submit(self, **request: Any) -> str:
        request["sent"] = zipfile.ZipFile(request["runtime_env"]["working_dir"]).namelist()
        self.requests.append(request)
        return str(request["submission_id"])

    def follow(self, job_id: str, write: object) -> None:
        raise KeyboardInterrupt


def test_interrupted_following_leaves_the_job_running(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nassearch.submit.client.JobServer", FakeServer)
    (here / "run.yaml").write_text("space: s")
    (here / "needs.txt").write_text("# comment\ntorch==2.9\n\nsafetensors\n")
    text: list[str] = []
    options = SubmitOptions("http://h:8265", pip=("needs.txt", "ray"), env={"A": "1"}, job_id="job-7", cpus=2)
    argv = ["run", "--config", "run.yaml", "-c", "latency_ms <= 20; rm -rf /"]
    assert submit(argv, options, text.append) == 130
    assert "--attach job-7" in "".join(text)
    assert "ray job stop" in "".join(text)
    request = FakeServer.requests.pop()
    assert request["sent"] == ["run.yaml"]
    assert shlex.split(request["entrypoint"])[-6:] == [*argv[1:], "--out", "runs/job-7"]
    assert request["runtime_env"]["pip"] == ["torch==2.9", "safetensors", "ray"]
    assert request["runtime_env"]["env_vars"] == {"A": "1"}
    sent = {Path(p).name for p in request["runtime_env"]["py_modules"]}
    assert sent == {"search_spaces", "supernets", "predictors", "nassearch"}
    assert request["entrypoint_num_cpus"] == 2


class FinishedServer:
    """Has a job that is done, and its archive."""

    address = "http://h:8265"

    def __init__(self, archive: Path, destination: Path) -> None:
        self.archive = archive
        self.state = SimpleNamespace(
            status=SimpleNamespace(value="SUCCEEDED"), driver_exit_code=0, driver_node_id="n", message="",
            metadata={"nassearch_destination": str(destination)},
        )  # fmt: skip

    def details(self, job_id: str) -> Any:
        return self.state

    def follow(self, job_id: str, write: object) -> Any:
        return self.state

    def fetch(self, node: str, name: str, target: Path | None = None) -> bytes:
        if target is None:
            return json.dumps({"bytes": self.archive.stat().st_size, "sha256": sha256(self.archive)}).encode()
        target.write_bytes(self.archive.read_bytes())
        return b""


def test_a_run_folder_that_comes_back_destroys_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_run(tmp_path / "made", "space: new\n")
    pack(files_below(made), made, tmp_path / "run.zip")
    destination = tmp_path / "runs/a"
    server = FinishedServer(tmp_path / "run.zip", destination)
    monkeypatch.setattr("nassearch.submit.client.JobServer", lambda _address: server)

    def fetched() -> str:
        text: list[str] = []
        assert attach("http://h:8265", "job-9", out=text.append) == 0
        return "".join(text)

    assert fetched() == f"run folder: {destination}\n"
    (destination / "config.yaml").write_text("space: old\n")
    assert fetched() == f"run folder: {destination}\n"  # a run folder is replaced
    assert (destination / "config.yaml").read_text() == "space: new\n"
    (destination / "config.yaml").unlink()
    (destination / "thesis.tex").touch()
    text = fetched()
    assert "is no run folder: it is left alone" in text
    assert text.endswith(f"run folder: {destination}-job-9\n")
    assert (destination / "thesis.tex").exists()
    assert (tmp_path / "runs/a-job-9/config.yaml").read_text() == "space: new\n"
    with locked(tmp_path / "runs/a-job-9"):
        assert fetched().endswith(f"run folder: {destination}-job-9-2\n")


def test_too_much_data_is_refused_with_the_largest_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nassearch.submit.client.JobServer", FakeServer)
    monkeypatch.setattr("nassearch.submit.client.MAX_ARCHIVE_BYTES", 1 << 20)
    (here / "weights.pth").write_bytes(os.urandom(2 << 20))
    with pytest.raises(ConfigError, match=r"weights.pth \(2 MB\).*--shared-dir"):
        submit(["run", "--checkpoint", "weights.pth"], SubmitOptions("http://h:8265"))


# -- a real cluster --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A cluster of one node, started as a user would, with token authentication: its address and token."""
    import ray  # noqa: F401 - brings psutil

    psutil = pytest.importorskip("psutil")
    token, port = secrets.token_hex(16), free_port()
    folder = Path("/tmp") / f"nas-head-{os.getpid()}"
    tools = str(Path(sys.executable).parent)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PATH": f"{tools}:{os.environ['PATH']}",
    }
    words = f"start --head --block --port {free_port()} --dashboard-port {port} --num-cpus 2 --temp-dir {folder}"
    words += """ --resources '{"latency_slot": 1}'"""
    log = tmp_path_factory.mktemp("head") / "log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [f"{tools}/ray", *shlex.split(words), "--ray-client-server-port", str(free_port())],
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", token
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for member in [*family, process]:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()
        for other in psutil.process_iter(["cmdline"]):
            if any(str(folder) in word for word in other.info["cmdline"] or ()):
                other.kill()
        subprocess.run(["rm", "-rf", str(folder)], check=False)


# Stands for `nassearch run` in the job, so that this test is about the submission.
FAKE = """
import pathlib, sys, os
argv = sys.argv[1:]
print("args", argv)
out = pathlib.Path(argv[argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "front.csv").write_text(pathlib.Path(argv[argv.index("--config") + 1]).read_text())
(out / "big.bin").write_bytes(os.urandom(3_000_000))
(out / "env").write_text(os.environ["GREETING"])
sys.stdout.flush()
os._exit(0 if "--seed" not in argv else 5)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_job_end_to_end(head: tuple[str, str], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, token = head
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    (here / "run.yaml").write_text("space: s\n")
    argv = ["run", "--config", "run.yaml", "--out", "runs/one"]

    with pytest.raises(ConfigError, match="wants a token"):
        submit(argv, SubmitOptions(address))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(ConfigError, match="refuses the token"):
        submit(argv, SubmitOptions(address))
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)

    # The job finds this module before the real command line of the same name.
    (here / "sitecustomize.py").write_text(
        "import sys, types\n"
        "if sys.argv[0] == '-m' and sys.orig_argv[1:3] == ['-m', 'nassearch']:\n"
        f"    sys.argv[0:] = sys.orig_argv[2:]\n    exec({FAKE!r})\n"
    )
    text: list[str] = []
    options = SubmitOptions(address, working_dir=here, env={"GREETING": "hello", "PYTHONPATH": "."})
    assert submit(argv, options, text.append) == 0, "".join(text)
    folder = here / "runs/one"
    assert (folder / "front.csv").read_text() == "space: s\n"
    assert (folder / "big.bin").stat().st_size == 3_000_000
    assert (folder / "env").read_text() == "hello"
    assert "args ['run', '--config', 'run.yaml', '--out', 'runs/one']" in "".join(text)

    # A second one fails; it is not followed at first, and attached to later.
    argv = ["run", "--config", "run.yaml", "--out", "runs/two", "--seed", "1"]
    second = SubmitOptions(address, working_dir=here, env=options.env, follow=False)
    text.clear()
    assert submit(argv, second, text.append) == 0
    assert f"--attach {second.job_id}" in "".join(text)
    assert not (here / "runs/two").exists()
    assert attach(address, second.job_id, out=text.append) == 5
    assert (here / "runs/two/front.csv").exists()
    with pytest.raises(ConfigError, match="no job"):
        attach(address, "nassearch-none", out=text.append)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_run_comes_back_and_goes_on_here(
    head: tuple[str, str], here: Path, small_task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    address, token = head
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    command = [
        *("run", "--space", "mobilenetv3-tiny", "--task", small_task, "-o", "top1:max", "-o", "latency_ms:min"),
        *("--latency", "cpu:eager,budget_ms=20", "--num-evals", "10", "--batch-size", "5", "--strategy", "nsga2"),
        *("--set", "train.settings.epochs=2", "--executor", "ray", "--out", "runs/real"),
    ]
    text: list[str] = []
    assert submit(command, SubmitOptions(address), text.append) == 0, "".join(text)
    log = "".join(text)
    for part in ("training 8/8", "search 10/10", "Pareto front of mobilenetv3-tiny", "Exported subnet", "run folder:"):
        assert part in log, log

    capsys.readouterr()
    assert _run(["front", "runs/real", "--json"], debug=False) == 0
    front = json.loads(capsys.readouterr().out)
    assert front["n_evaluated"] == 10
    assert all(member["remeasured"] and member["report"] for member in front["front"])
    for name in ("report.html", "front.png", "front.csv"):
        assert (here / "runs/real" / name).stat().st_size > 0
    before = Run("runs/real").records

    go_on = ["run", "--resume", "runs/real", "--num-evals", "12", "--executor", "local"]
    assert _run([*go_on, "--json"], debug=False) == 0
    after = Run("runs/real").records
    assert len(after) == 12
    assert [(r.id, r.row, r.values) for r in after[:10]] == [(r.id, r.row, r.values) for r in before]
