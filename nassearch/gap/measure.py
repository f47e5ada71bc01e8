"""`nassearch gap`: sample, inherit, train from scratch row by row, report."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nassearch.console import Console, make_console
from nassearch.errors import ConfigError
from nassearch.folders import locked
from nassearch.gap.folder import (
    PLOT,
    REPORT,
    TRAINED,
    GapFolder,
    GapRow,
    GapSettings,
    Genotype,
    find_folder,
    read_rows,
    read_settings,
)
from nassearch.gap.report import Report, check_metric, make_report, qualities
from nassearch.gap.sample import stratified
from nassearch.gap.scratch import Recipe, Start, clear_checkpoints, make_recipe
from nassearch.manifest import write_json
from nassearch.metrics import canonical
from nassearch.objectives import Objective
from nassearch.runs import SUPERNET_FOLDER, Run

if TYPE_CHECKING:
    from supernets import Supernet

_CHECKPOINTS = "training"


def measure_gap(
    run: Run,
    *,
    architectures: int = 30,
    epochs: int | None = None,
    seeds: int = 1,
    seed: int | None = None,
    metric: str | None = None,
    start: Start | None = None,
    reuse: str | Path | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
) -> Report:
    """Train sampled architectures of a run from scratch and compare them with what the supernet says of them.

    What is done is on the disk row by row; called again, it goes on where it was stopped.

    Args:
        run: The run, with a trained supernet.
        architectures: How many; a greater number later adds to those that are done.
        epochs: Passes over the data from scratch. Default: the run's recipe.
        seeds: Trainings of each architecture; from ``seed`` on.
        seed: Decides the sample and the first training. Default: the run's.
        metric: A metric of the task. Default: the run's first objective that is one, else the task's first.
        start: ``"initial"``: from the weights with which the run's training began, cut to the architecture's size;
            ``"random"``: from random ones. Default: see `make_recipe`.
        reuse: A folder with results from scratch of the same space, data and recipe, which are taken over.
        out: The folder. Default: ``gap/`` in the run.
        console: Where progress is printed. Default: standard output.

    Returns:
        The report, also written into the folder.

    Raises:
        ConfigError: Bad input; nothing was written.
    """
    console = console or make_console()
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds} is not positive; give at least 1")
    seed = run.config.seed if seed is None else seed
    if not 0 <= seed < 2**32:
        raise ConfigError(f"--seed {seed} is not allowed; give 0 to {2**32 - 1}")
    recipe = make_recipe(run, epochs=epochs, start=start)
    settings = _settings(run, recipe, seed)
    chosen = check_metric(settings, metric)
    known = _reusable(settings, Path(reuse)) if reuse is not None else {}
    net = run.supernet()
    rows = stratified(run.space, net.analytic, architectures, seed)
    wanted = [(_genotype(r), s) for s in range(seed, seed + seeds) for r in rows]
    path = run.folder / "gap" if out is None else Path(out)
    _check_same_networks(run, net, rows, known)
    GapFolder.check(path, settings)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        folder = GapFolder.open(path, settings)
        _Measuring(run, recipe, net, folder, rows, known, console).measure(wanted)
        clear_checkpoints(path / _CHECKPOINTS)
        report = make_report(qualities(settings, [folder.rows[key] for key in wanted], chosen))
        write_json(path / REPORT, _report_json(run, settings, report, folder, wanted))
        from nassearch.reports.gap_plot import plot_gap

        plot_gap(report, settings.space, path / PLOT)
    return report


class _Measuring:
    """One process's work on the rows of a folder."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        net: Supernet,
        folder: GapFolder,
        rows: NDArray[np.int64],
        known: dict[tuple[Genotype, int], GapRow],
        console: Console,
    ) -> None:
        self.run, self.recipe, self.folder, self.console = run, recipe, folder, console
        costs = net.analytic(rows)
        architectures = run.space.decode(rows)
        self._sample = {
            _genotype(row): (i + 1, architectures[i], float(costs["params_m"][i]), float(costs["macs_m"][i]))
            for i, row in enumerate(rows)
        }
        self._known = known
        self._inherited = self._evaluator(net)
        self._first: tuple[int, Supernet] | None = None

    def measure(self, wanted: list[tuple[Genotype, int]]) -> None:
        """Make the rows that are wanted and not there yet."""
        missing = [key for key in wanted if key not in self.folder.rows]
        taken = [key for key in missing if key in self._known]
        if len(missing) < len(wanted):
            self.console.print(f"{len(wanted) - len(missing)} of {len(wanted)} trainings are done already.")
        if self._known:
            self.console.print(f"{len(taken)} of {len(missing)} results from scratch are taken over.")
        for done, (genotype, seed) in enumerate([*taken, *(key for key in missing if key not in self._known)]):
            row = self._row(genotype, seed)
            self.folder.append(row)
            if row.source == TRAINED:
                self.console.print(f"{done + 1}/{len(missing)}  {_told(row)}", markup=False, soft_wrap=True)

    def _row(self, genotype: Genotype, seed: int) -> GapRow:
        number, arch, params_m, macs_m = self._sample[genotype]
        before = next((r for (g, _), r in self.folder.rows.items() if g == genotype), None)
        inherited = before.inherited if before is not None else self._score(self._inherited, arch)
        known = self._known.get((genotype, seed))
        if known is not None:
            scratch, seconds, source, error = known.scratch, known.seconds, known.source, ""
        else:
            source = TRAINED
            scratch, seconds, error = self._train(number, arch, seed)
        return GapRow(number, seed, genotype, params_m, macs_m, inherited, scratch, seconds, source, error)

    def _train(self, number: int, arch: dict[str, Any], seed: int) -> tuple[dict[str, float], float, str]:
        """Return what a network reaches alone and the seconds that took, or why it reached nothing."""
        from supernets.training import NonFiniteLoss

        if self._first is None or self._first[0] != seed:
            self._first = (seed, self.recipe.first_weights(self.run, seed))
        name = f"{number}-seed{seed}"
        checkpoints = self.folder.path / _CHECKPOINTS
        clear_checkpoints(checkpoints, keep=name)
        began = time.monotonic()
        try:
            alone, report = self.recipe.train(self._first[1], arch, seed, checkpoints / name, self.console)
        except NonFiniteLoss as error:
            return {}, time.monotonic() - began, " ".join(str(error).split())
        return self._score(self._evaluator(alone), alone.active), report.seconds, ""

    def _evaluator(self, net: Supernet) -> Any:
        from nassearch.evaluation import SupernetEvaluator

        return SupernetEvaluator(net, self.recipe.problem.task, self.recipe.problem.evaluation_settings())

    def _score(self, evaluator: Any, arch: dict[str, Any]) -> dict[str, float]:
        """Return the metrics of the task as a search sees them: recalibrated, on its split, with its threads."""
        from predictors.backends.base import pinned_threads

        with pinned_threads(self.run.config.executor.threads):
            return {m: float(v) for m, v in evaluator.score(arch, "search").items()}


def _check_same_networks(
    run: Run, net: Supernet, rows: NDArray[np.int64], known: dict[tuple[Genotype, int], GapRow]
) -> None:
    """Refuse results of networks that have the genes of this run's but other costs."""
    costs = net.analytic(rows)
    here = {_genotype(r): (float(costs["params_m"][i]), float(costs["macs_m"][i])) for i, r in enumerate(rows)}
    for other in known.values():
        mine = here.get(other.genotype)
        if mine is not None and not np.allclose((other.params_m, other.macs_m), mine, rtol=1e-9):
            raise ConfigError(
                f"--from has an architecture with {other.params_m:.6g} M parameters and {other.macs_m:.6g} M "
                f"multiply-accumulates, which has {mine[0]:.6g} and {mine[1]:.6g} in {run.folder}: its networks are of "
                "another model. Leave --from out"
            )


def _genotype(row: NDArray[np.int64]) -> Genotype:
    return tuple(int(i) for i in row)


def _settings(run: Run, recipe: Recipe, seed: int) -> GapSettings:
    task, config = recipe.problem.task, run.config
    named = [canonical(Objective.parse(text).metric, task.metrics) for text in config.objectives]
    objectives = [m for m in named if m in task.metrics]
    description = (run.folder / SUPERNET_FOLDER / "supernet.json").read_bytes()  # it has the hash of the weights
    evaluation = {"batch_size": config.evaluation.batch_size, "calibration_size": config.evaluation.calibration_size}
    start, layers = recipe.start_json(), json.loads(description)["config"].get("layer_order")
    if layers:  # a genotype of other layers is another network
        start["layers"] = layers
    return GapSettings(
        str(run.folder), run.space.name, run.space.identity, config.task, task.fingerprint, dict(task.metrics),
        objectives[0] if objectives else next(iter(task.metrics)), hashlib.sha256(description).hexdigest(), seed,
        recipe.to_json(), start, evaluation,
    )  # fmt: skip


def _reusable(settings: GapSettings, path: Path) -> dict[tuple[Genotype, int], GapRow]:
    """Return successful results from scratch of another folder, each with the folder it comes from first.

    Raises:
        ConfigError: They are of another space, data or recipe.
        RunFolderError: It is no such folder.
    """
    folder = find_folder(path)
    if different := settings.differences(read_settings(folder)):
        listed = "".join(f"\n  - {line}" for line in different)
        raise ConfigError(f"--from {path} has results of other networks, data or trainings:{listed}")
    found = {}
    for r in read_rows(folder):
        if r.scratch:
            source = str(folder.resolve()) if r.source == TRAINED else r.source
            found[r.genotype, r.seed] = GapRow(**{**vars(r), "source": source})
    return found


def _told(row: GapRow) -> str:
    if row.error:
        return f"architecture {row.architecture}, seed {row.seed}: failed: {row.error}"
    values = ", ".join(f"{m} {row.inherited[m]:.4g} inherited, {v:.4g} alone" for m, v in row.scratch.items())
    return f"architecture {row.architecture} ({row.macs_m:.4g} M MACs), seed {row.seed}: {values}; {row.seconds:.0f} s"


def _report_json(
    run: Run, settings: GapSettings, report: Report, folder: GapFolder, wanted: list[tuple[Genotype, int]]
) -> dict[str, Any]:
    from nassearch.manifest import command_line, versions

    q = report.qualities
    decoded = run.space.decode(np.array(q.genotypes, dtype=np.int64))
    rows = [folder.rows[key] for key in wanted]
    return {
        "command": command_line(),
        "versions": versions(),
        "settings": settings.to_json(),
        **report.to_json(),
        "reused": sum(r.source != TRAINED for r in rows),
        "training_s": sum(r.seconds for r in rows if r.source == TRAINED),
        "networks": [
            {"inherited": i, "scratch": s, "params_m": p, "architecture": a}
            for i, s, p, a in zip(q.inherited.tolist(), q.scratch.tolist(), q.params_m.tolist(), decoded, strict=True)
        ],
    }
