"""Training of a supernet by the workers of a Ray cluster, with Ray Train."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ConfigError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, SupernetEvaluatorSource
from nassearch.executors.base import ExecutorSettings
from nassearch.executors.ray_cluster import Cluster, worker_environment

if TYPE_CHECKING:
    from nassearch.problem import Problem
    from supernets import Supernet
    from supernets.training import TrainProgress

_POLL_S = 0.5
_PROGRESS_FILE, _ERROR_FILE = "progress.json", "error.json"
_STORAGE = "ray"  # Ray Train wants a place of its own; our checkpoints are beside it


def require_ray_train() -> Any:
    """Return the module ``ray.train``.

    Raises:
        ConfigError: Ray or what Ray Train needs is not installed.
    """
    try:
        import ray.train.torch
    except ImportError as error:
        raise ConfigError(
            f"training on Ray cannot be imported ({error}); install it with `pip install 'ray[default,train]'`, train "
            "with `--executor local` first, or use one worker"
        ) from error
    return ray.train


def train_on_ray(
    problem: Problem,
    net: Supernet,
    folder: Path,
    settings: ExecutorSettings,
    progress: Callable[[TrainProgress], None],
) -> None:
    """Train a run's supernet to its last checkpoint, which the caller reads; ``net`` itself stays as it is.

    A worker that is lost ends all of them; they start again from the last checkpoint, ``settings.retries`` times.

    Args:
        problem: The run; its training is not None.
        net: The supernet with its first weights.
        folder: Of the checkpoint; worker 0 must see it.
        settings: Workers, threads, retries, address.
        progress: Called with the state of worker 0, now and then.

    Raises:
        ConfigError: The cluster cannot be used.
        TrainingError: The training cannot go on; the message says why.
    """
    from supernets.training import TrainingError, TrainProgress

    train = require_ray_train()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_PROGRESS_FILE, _ERROR_FILE):
        (folder / name).unlink(missing_ok=True)
    plain = EvaluationSettings((), {}, device="cpu")
    source = SupernetEvaluatorSource.of(SupernetEvaluator(net, problem.task, plain), problem.config.plugins)
    arrays = source.arrays()
    cluster = Cluster(settings, sum(a.nbytes for a in arrays.values()))
    try:
        import ray

        job = {
            "source": source.without_arrays(),
            "arrays": {name: ray.put(array) for name, array in arrays.items()},
            "method": problem.config.train_method,
            "settings": problem.training,
            "batch_size": problem.training_batch_size,
            "seed": problem.config.seed,
            "folder": str(folder),
            "where": str(Path.cwd()),
            "threads": settings.threads,
        }
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        environment = {} if cluster.private else {"env_vars": worker_environment(settings)}
        trainer = train.torch.TorchTrainer(
            train_share,
            train_loop_config=job,
            scaling_config=train.ScalingConfig(
                num_workers=settings.num_workers,
                use_gpu=resources.get("GPU", 0) >= settings.num_workers,
                resources_per_worker={"CPU": settings.threads},
            ),
            run_config=train.RunConfig(
                name="training",
                storage_path=str(folder / _STORAGE),
                failure_config=train.FailureConfig(max_failures=settings.retries),
                worker_runtime_env=environment,
            ),
        )
        failure = _fit(trainer, lambda: _show(folder, progress, TrainProgress))
        told = folder / _ERROR_FILE
        if told.exists():
            raise TrainingError(json.loads(told.read_text(encoding="utf-8")))
        if failure is not None:
            raise TrainingError(
                f"the workers of the Ray cluster could not train, after {settings.retries} retries: {_first(failure)}; "
                "the last checkpoint is kept: see that the nodes have the packages and the memory, then resume"
            ) from failure
    finally:
        cluster.close()


def _fit(trainer: Any, show: Callable[[], None]) -> Exception | None:
    """Run Ray's trainer and return its error; in a thread, as it would take over Ctrl-C in the main one."""
    errors: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # Ray raises whatever its processes stumble over
            errors.append(error)

    thread = threading.Thread(target=fit, name="nassearch-ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        show()
    return errors[0] if errors else None


def _show(folder: Path, progress: Callable[[TrainProgress], None], kind: type[TrainProgress]) -> None:
    """Pass on the progress that worker 0 has left."""
    file = folder / _PROGRESS_FILE
    if file.exists():
        progress(kind(**json.loads(file.read_text(encoding="utf-8"))))


def _first(error: Exception) -> str:
    """Return the error of a worker in one line: Ray wraps it."""
    inner = list(getattr(error, "worker_failures", {}).values())
    text = str(inner[0] if inner else error).strip()
    return (text.splitlines() or [type(error).__name__])[-1][:500]


# -- in the workers ----------------------------------------------------------------------------------


def train_share(job: Mapping[str, Any]) -> None:
    """Train as one of the workers of a process group that Ray Train has joined.

    Args:
        job: What `train_on_ray` made.
    """
    import ray
    import torch
    from ray.train import torch as ray_torch

    from supernets import SupernetError
    from supernets.training import ProcessTeam, logits_of, train

    if Path(job["where"]).is_dir():
        os.chdir(job["where"])  # Ray Train changes it; teachers and plugins may be named from there
    torch.set_num_threads(job["threads"])
    team, folder = ProcessTeam(), Path(job["folder"])
    if team.rank == 0 and not folder.is_dir():
        raise FileNotFoundError(
            f"the run folder of {folder} is not on this node; give --out on storage that all nodes share"
        )
    names = list(job["arrays"])
    evaluator = job["source"].build(dict(zip(names, ray.get([job["arrays"][n] for n in names]), strict=True)))
    task = evaluator.task
    try:
        train(
            evaluator.net,
            task.training_data(job["batch_size"], seed=job["seed"]),
            lambda outputs, targets: task.loss(logits_of(outputs), targets),
            method=job["method"],
            settings=job["settings"],
            checkpoint_dir=folder,
            resume=True,
            progress=_ProgressFile(folder / _PROGRESS_FILE),
            device=ray_torch.get_device(),
            data_fingerprint=task.fingerprint,
            team=team,
        )
    except SupernetError as error:  # would come again: no retry
        if team.rank == 0:
            (folder / _ERROR_FILE).write_text(json.dumps(str(error)), encoding="utf-8")


class _ProgressFile:
    """Leaves the progress of a training in a file, not more often than it is read."""

    def __init__(self, path: Path) -> None:
        self._path, self._written = path, 0.0

    def __call__(self, state: TrainProgress) -> None:
        now = time.monotonic()
        if now - self._written < _POLL_S and state.step < state.total:
            return
        self._written = now
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(state)), encoding="utf-8")
        partial.replace(self._path)
