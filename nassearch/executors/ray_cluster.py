"""Connecting to a Ray cluster, or starting a private one on this machine."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError
from nassearch.executors.base import ExecutorSettings
from nassearch.executors.ray_folder import SessionFolder

MINIMUM_RAY = (2, 52)
OUR_PACKAGES = ("search_spaces", "supernets", "predictors", "nassearch")

# What a private cluster is started with: no telemetry, no re-packaging of the environment under `uv run`, and every
# port on loopback. The last one is named after the systems where Ray does so by default; without it Ray replaces
# 127.0.0.1 by the machine's outer address and listens on all interfaces.
_PRIVATE_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PRIVATE_CONSTANTS = ("ENABLE_RAY_CLUSTER", "RAY_ENABLE_UV_RUN_RUNTIME_ENV")
_STARTS = 3
_LAST_WORD_S = 5.0
_CONNECT_S = 10.0


def require_ray() -> Any:
    """Return the module ``ray``.

    Raises:
        ConfigError: Ray is not installed or too old.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"the Ray executor needs Ray, which cannot be imported ({error}); "
            "install it with `pip install 'ray[default]'`, or use `--executor local`"
        ) from error
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < MINIMUM_RAY:
        wanted = ".".join(map(str, MINIMUM_RAY))
        raise ConfigError(f"Ray {ray.__version__} is too old, {wanted} or newer is needed; upgrade 'ray[default]'")
    return ray


def worker_environment(settings: ExecutorSettings) -> dict[str, str]:
    """Return the environment of workers.

    Ray would set ``OMP_NUM_THREADS`` from the cores an actor reserves, run workers at low priority (which would
    slow measurements down), and, in older versions, hide the GPUs from actors that reserve none.
    """
    threads = dict.fromkeys(_THREAD_LIMITS, str(settings.threads))
    return {**threads, "RAY_worker_niceness": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def package_folders() -> list[str]:
    """Return the folders of our packages, to be sent to clusters where they are not installed."""
    return [str(Path(str(importlib.import_module(name).__file__)).parent) for name in OUR_PACKAGES]


class Cluster:
    """A connection to Ray; a private cluster lives as long as its connection.

    A connection that this process has already is used and left open. Otherwise the cluster is, in this order,
    that of ``settings.address``, that of the Ray job this process belongs to, or a private one: on loopback,
    without dashboard, with a temporary folder of its own.

    Args:
        settings: Address, workers and threads.
        array_bytes: Bytes that the object store of a private cluster must hold.

    Raises:
        ConfigError: Ray cannot be used, or the cluster does not answer.
    """

    def __init__(self, settings: ExecutorSettings, array_bytes: int) -> None:
        self.private = self._connected = self.lost = False
        self._folder: SessionFolder | None = None
        self._restore_stdout: Callable[[], None] = lambda: None
        address = cluster_address(settings.address)
        if address is None:
            # Workers inherit the environment, so that those that Ray starts beforehand can be used.
            with _environment({**_PRIVATE_ENV, **worker_environment(settings)}):
                self._ray = require_ray()
                if not self._ray.is_initialized():
                    self._start(settings, array_bytes)
        else:
            self._ray = require_ray()
            if not self._ray.is_initialized():
                self._join(address)

    def _start(self, settings: ExecutorSettings, array_bytes: int) -> None:
        cpus = settings.num_workers * settings.threads + settings.latency_cpus * len(settings.measured_by())
        for attempt in range(1, _STARTS + 1):
            self._folder = SessionFolder()
            try:
                with _constants_set(), _signals_kept():
                    self._ray.init(
                        address="local",
                        num_cpus=cpus,
                        resources=dict.fromkeys(settings.measured_by(), 1),
                        include_dashboard=False,
                        object_store_memory=int(array_bytes * 1.3) + 100 * 2**20,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=str(self._folder.path),
                    )
            except Exception as error:  # Ray raises whatever its processes stumble over
                base = self._folder.base
                _kill_children(str(self._folder.path))
                self.close()
                # Ray gives its processes 30 s, which a busy machine may exceed.
                if attempt < _STARTS and "timed out" in str(error):
                    continue
                raise ConfigError(
                    f"Ray could not start a cluster on this machine: {error}; look at `nassearch doctor`, free "
                    f"memory or disk under {base}, or use `--executor local`"
                ) from error
            self.private = self._connected = True
            self._restore_stdout = _messages_to_stderr()
            return

    def _join(self, address: str) -> None:
        _check_answers(address)
        options: dict[str, Any] = {}
        if not _in_job():
            options["runtime_env"] = {"py_modules": package_folders()}
        try:
            with _signals_kept():
                self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # connection, version and authentication errors have no common base
            raise ConfigError(
                f"cannot use the Ray cluster at {address!r}: {str(error).strip() or type(error).__name__}; "
                'allowed are "auto" (on a node of the cluster), HOST:PORT (from a node) and ray://HOST:10001; from '
                "elsewhere use `nassearch submit --address http://HOST:8265`. The cluster's token must be in "
                "RAY_AUTH_TOKEN or ~/.ray/auth_token, and Python and Ray versions must be those of the cluster"
            ) from error
        self._connected = True
        self._restore_stdout = _messages_to_stderr()

    def resource(self, node: str, name: str) -> float:
        """Return how much of a resource a living node has, free or not."""
        return sum(float(n["Resources"].get(name, 0)) for n in self._ray.nodes() if n["Alive"] and n["NodeID"] == node)

    def nodes_with(self, resource: str, amount: float) -> list[str]:
        """Return the ids of the living nodes that have a resource, free or not."""
        nodes: list[Mapping[str, Any]] = self._ray.nodes()
        return [n["NodeID"] for n in nodes if n["Alive"] and n["Resources"].get(resource, 0) >= amount]

    def alive(self, timeout_s: float = 10.0) -> bool:
        """Return whether the cluster answers and has nodes; asked in a thread, as Ray itself waits much longer."""
        answers: list[bool] = []

        def ask() -> None:
            try:
                answers.append(any(node["Alive"] for node in self._ray.nodes()))
            except Exception:  # any error means the same here
                answers.append(False)

        thread = threading.Thread(target=ask, name="nassearch-ray-alive", daemon=True)
        thread.start()
        thread.join(timeout_s)
        self.lost = not (answers and answers[0])
        return not self.lost

    def close(self) -> None:
        """End the connection if it was made here, and with it a private cluster."""
        if self._connected or self._folder is not None:
            self._disconnect()
            self._connected = False
        self._restore_stdout()
        self._restore_stdout = lambda: None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _disconnect(self) -> None:
        if not self.lost:
            self._ray.shutdown()
            return
        # Without its cluster Ray waits for a minute and then ends the whole process, at the exit too.
        thread = threading.Thread(target=self._ray.shutdown, name="nassearch-ray-shutdown", daemon=True)
        thread.start()
        thread.join(_LAST_WORD_S)
        atexit.unregister(self._ray.shutdown)


def _check_answers(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself goes on trying for a quarter of an hour.

    Raises:
        ConfigError: Nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto", or something that Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address!r} ({error}); see that it is up, started by `ray start --head "
            "--port=…`, and reachable from here; from elsewhere use `nassearch submit --address http://HOST:8265`"
        ) from error


def _kill_children(folder: str) -> None:
    """Kill what a failed start has left: the processes of ours that know its folder."""
    psutil = importlib.import_module("psutil")  # Ray brings its own copy

    for process in psutil.Process().children(recursive=True):
        try:
            if any(folder in word for word in process.cmdline()):
                process.kill()
        except psutil.NoSuchProcess:
            continue


def _in_job() -> bool:
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def cluster_address(given: str | None) -> str | None:
    """Return the address given, else that of the Ray job this process belongs to or of ``RAY_ADDRESS``; None is none.

    The address of a job server in ``RAY_ADDRESS`` does not count: that is meant for `nassearch submit`.
    """
    if given:
        return given
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address and not address.startswith(("http://", "https://")):
        return address
    return "auto" if _in_job() else None


def connected() -> bool:
    """Return whether this process is connected to a cluster already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _messages_to_stderr() -> Callable[[], None]:
    """Let Ray print messages such as ``(raylet) A worker died`` to stderr, as stdout is for our output.

    ``log_to_driver=False`` concerns the output of workers only. A Ray without the function is left as it is.

    Returns:
        What undoes it.
    """
    worker = importlib.import_module("ray._private.worker")
    original = getattr(worker, "print_to_stdstream", None)
    if original is None:
        return lambda: None

    def print_to_stderr(data: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        return original({**data, "is_err": True}, *args, **options)

    worker.print_to_stdstream = print_to_stderr  # type: ignore[attr-defined]

    def restore() -> None:
        worker.print_to_stdstream = original  # type: ignore[attr-defined]

    return restore


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and afterwards what was there before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _constants_set() -> Iterator[None]:
    """Set the constants that Ray read from the environment when it was imported, perhaps long ago."""
    constants = importlib.import_module("ray._private.ray_constants")
    before = {name: getattr(constants, name) for name in _PRIVATE_CONSTANTS if hasattr(constants, name)}
    for name in before:
        setattr(constants, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo that ``ray.init`` replaces the handler of SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
