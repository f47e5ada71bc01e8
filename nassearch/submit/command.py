"""From a command on this machine to the same command on a cluster, and the files it needs there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError
from nassearch.submit.archive import files_below
from nassearch.submit.options import SubmitOptions

MAX_ARCHIVE_BYTES = 95 * 2**20  # the job server takes requests of up to 100 MiB
_INPUT_FLAGS = ("--config", "--resume", "--checkpoint", "--supernet", "--warm-start")
_RUN_FLAGS = ("--resume", "--warm-start")
_INPUT_KEYS = ("checkpoint", "supernet")
_CLUSTER_KEYS = ("executor.address",)
_FOLDER_TASKS = ("imagefolder", "cifar10", "npz")


@dataclass(frozen=True)
class RemoteCommand:
    """A command ready to be sent.

    Attributes:
        argv: Words after ``nassearch``.
        base: Folder on this machine that is the job's working directory there.
        files: Files to send, all below ``base``.
        folder: The run folder, relative to the job's working directory, or absolute on a shared file system.
        destination: Where the run folder goes on this machine; None if it is there already.
    """

    argv: tuple[str, ...]
    base: Path
    files: tuple[Path, ...]
    folder: str
    destination: Path | None


def prepare(argv: Sequence[str], options: SubmitOptions) -> RemoteCommand:
    """Check a command and find out what it needs on the cluster.

    Args:
        argv: The command after ``nassearch``: ``run …``.
        options: How it is sent.

    Raises:
        ConfigError: Something in the command can mean nothing on another machine; all faults together.
    """
    return _Preparation(list(argv), options).result()


class _Preparation:
    def __init__(self, argv: list[str], options: SubmitOptions) -> None:
        self.options, self.faults = options, list[str]()
        self.argv = argv[1:] if argv[:1] == ["nassearch"] else argv
        self.base = (options.working_dir or Path.cwd()).resolve()
        self.shared = [folder.resolve() for folder in options.shared_dirs]
        self.inputs: list[Path] = []
        self.configured_out: str | None = None

    def result(self) -> RemoteCommand:
        if self.argv[:1] != ["run"]:
            given = f"{self.argv[0]!r}" if self.argv else "nothing"
            raise ConfigError(
                f"`nassearch submit` sends `run` commands, {given} was given; "
                "write `nassearch submit --address http://HOST:8265 -- run --space … --task …`"
            )
        if not self.base.is_dir():
            raise ConfigError(f"--working-dir {self.base} is not a folder; give the folder that the job needs")
        for index, flag, value in list(_flags(self.argv)):
            self._flag(index, flag, value)
        folder, destination = self._folder()
        if self.faults:
            raise ConfigError(self.faults)
        return RemoteCommand(tuple(self.argv), self.base, tuple(sorted(set(self._files()))), folder, destination)

    # -- what the command reads ----------------------------------------------------------------------

    def _flag(self, index: int, flag: str, value: str) -> None:
        if flag in _INPUT_FLAGS:
            path = self._input(value, flag)
            if path is not None:
                self._replace(index, flag, value, self._remote(path))
                if flag == "--config":
                    self._config(path)
                elif flag in _RUN_FLAGS:
                    self._run_folder(path, flag)
        elif flag == "--task":
            self._task(value, flag)
        elif flag == "--plugin":
            self._plugin(value)
        elif flag == "--set":
            key, _, text = value.partition("=")
            self._setting(key.strip(), text.strip(), "--set")
        elif flag == "--ray-address":
            self._address(f"--ray-address {value}")

    def _setting(self, key: str, value: Any, where: str) -> None:
        if not isinstance(value, str) or not value:
            return
        if key in _INPUT_KEYS:
            self._input(value, f"{key} in {where}")
        elif key == "task":
            self._task(value, f"task in {where}")
        elif key in _CLUSTER_KEYS:
            self._address(f"{key} in {where}")

    def _address(self, given: str) -> None:
        self.faults.append(f"{given}: a submitted run uses the cluster it is sent to; leave it out")

    def _run_folder(self, folder: Path, flag: str) -> None:
        """Note the data and plug-ins that a run to go on with or to start from needs, where they are here."""
        from nassearch.runs import CONFIG_FILE

        if not (folder / CONFIG_FILE).is_file():
            self.faults.append(f"{flag} {folder}: it has no {CONFIG_FILE}, so it is no run folder of nassearch")
            return
        settings = self._read(folder / CONFIG_FILE, flag)
        task, plugins = settings.get("task"), settings.get("plugins") or ()
        if isinstance(task, str) and (flag == "--resume" or not any(f == "--task" for _, f, _ in _flags(self.argv))):
            self._task(task, f"task of {folder}")
        for plugin in plugins:
            self._plugin(str(plugin))

    def _config(self, path: Path) -> None:
        settings = self._read(path, "--config")
        executor = settings.get("executor")
        nested = {f"executor.{k}": v for k, v in executor.items()} if isinstance(executor, dict) else {}
        for key, value in (settings | nested).items():
            self._setting(str(key), value, str(path))
        for plugin in settings.get("plugins") or ():
            self._plugin(str(plugin))
        for folder in settings.get("warm_start") or ():
            if (earlier := self._input(str(folder), f"warm_start in {path}")) is not None:
                self._run_folder(earlier, "warm_start")
        if isinstance(out := settings.get("out"), str) and out:
            self.configured_out = out

    def _read(self, path: Path, flag: str) -> dict[str, Any]:
        """Return the settings of a YAML file; none where it cannot be read, which is a fault."""
        from nassearch.config import read_yaml

        try:
            return read_yaml(path)
        except ConfigError as error:
            self.faults += [f"{flag}: {fault}" for fault in error.faults]
            return {}

    def _task(self, value: str, where: str) -> None:
        name, _, rest = value.partition(":")
        if name in _FOLDER_TASKS and rest:
            from nassearch.tasks.options import split_options

            self._input(split_options(rest)[0], where)

    def _plugin(self, module: str) -> None:
        top = module.partition(".")[0]
        self.inputs += [p for p in (self.base / f"{top}.py", self.base / top) if p.exists()]

    def _input(self, value: str, where: str) -> Path | None:
        """Note a file or folder that the command reads; return it where it is to be sent."""
        path = (self.base / Path(value).expanduser()).resolve()
        if any(path.is_relative_to(folder) for folder in self.shared):
            return None
        if not path.exists():
            self.faults.append(
                f"{where} {value}: {path} does not exist here; if it does on every node of the cluster, name its "
                "folder with --shared-dir"
            )
            return None
        if not path.is_relative_to(self.base):
            self.faults.append(
                f"{where} {value}: the cluster does not see it, as it is outside {self.base}; copy it in there, "
                "choose another --working-dir, or name a folder that all nodes see with --shared-dir"
            )
            return None
        self.inputs.append(path)
        return path

    def _files(self) -> Iterator[Path]:
        if self.options.working_dir is not None:
            yield from files_below(self.base, run_folders=False)
        for path in self.inputs:
            yield from files_below(path)

    # -- what the command writes ---------------------------------------------------------------------

    def _folder(self) -> tuple[str, Path | None]:
        flags = {flag: (index, value) for index, flag, value in _flags(self.argv)}
        if "--resume" in flags:
            value = flags["--resume"][1]
            path = (self.base / Path(value).expanduser()).resolve()
            return value, (None if self._is_shared(path) else path)
        index, flag, prefix, value = self._out()
        path = Path(value).expanduser().resolve()
        if self._is_shared(path):
            self._replace(index, flag, prefix + value, f"{prefix}{path}")
            return str(path), None
        self._check_free(path)
        remote = self._remote(path) if path.is_relative_to(self.base) else f"runs/{path.name}"
        self._replace(index, flag, prefix + value, prefix + remote)
        return remote, path

    def _out(self) -> tuple[int, str, str, str]:
        """Return where the command says its run folder: index, flag, what stands before the path, path.

        Overrides win over flags and flags over the configuration file, as in `run`.
        """
        given = list(_flags(self.argv))
        for index, flag, value in reversed(given):
            key, equals, path = value.partition("=")
            if flag == "--set" and key.strip() == "out" and path.strip():
                return index, flag, key + equals, path
        if not any(flag == "--out" for _, flag, _ in given):
            self.argv += ["--out", self.configured_out or f"runs/{self.options.job_id}"]
        index, flag, value = next(found for found in reversed(list(_flags(self.argv))) if found[1] == "--out")
        return index, flag, "", value

    def _check_free(self, path: Path) -> None:
        """Refuse a destination that `run` would refuse, before anything is sent."""
        from nassearch.folders import check_folder_is_free

        try:
            check_folder_is_free(path, "--overwrite" in self.argv)
        except ConfigError as error:
            self.faults += error.faults

    def _is_shared(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.shared)

    def _remote(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()

    def _replace(self, index: int, flag: str, value: str, new: str) -> None:
        joined = f"{flag}={value}"
        self.argv[index] = f"{flag}={new}" if self.argv[index] == joined else new


def _flags(argv: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield for each long flag with a value: the index of the word with the value, the flag, the value."""
    for index, word in enumerate(argv):
        if not word.startswith("--"):
            continue
        flag, equals, value = word.partition("=")
        if equals:
            yield index, flag, value
        elif index + 1 < len(argv) and not argv[index + 1].startswith("--"):
            yield index + 1, flag, argv[index + 1]
