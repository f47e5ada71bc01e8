"""The search loop: ask, evaluate, append, tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.devices import KnownDevices
from nassearch.errors import EvaluationError
from nassearch.evaluation import Job, Part
from nassearch.executors import Executor
from nassearch.goal import Goal
from nassearch.metrics import is_measured
from nassearch.store import Outcome, Proposal, Retry, Store
from nassearch.strategies import Strategy

Listener = Callable[[Proposal, Outcome], None]


@dataclass(frozen=True)
class SearchSettings:
    """What decides a search besides its strategy.

    Attributes:
        budget: Number of architectures to evaluate, failed ones included.
        batch_size: Proposals a batch.
        seed: Seed of the strategy, logged with each batch.
        origin: Name of the strategy, logged with each batch.
        asynchronous: Tell every result as it comes and ask for one at a time, instead of batch by batch.
        max_consecutive_failures: So many failed evaluations in a row end the run.
        retry_failed: Evaluate again what failed before, once, ahead of new proposals.
    """

    budget: int
    batch_size: int
    seed: int
    origin: str
    asynchronous: bool = False
    max_consecutive_failures: int = 10
    retry_failed: bool = False


class Search:
    """Runs a strategy against an executor, with the store as its only state.

    Args:
        strategy: A fresh strategy: what the store has is replayed into it.
        executor: Evaluates.
        store: Where everything is logged.
        goal: Turns outcomes into what the strategy is told.
        settings: Budget and mode.
        listener: Called with every proposal and its outcome, once it is on the disk.
        reused: Row -> what is known of it from earlier runs and not evaluated again.
    """

    def __init__(
        self,
        strategy: Strategy,
        executor: Executor,
        store: Store,
        goal: Goal,
        settings: SearchSettings,
        listener: Listener | None = None,
        reused: Mapping[tuple[int, ...], Part] | None = None,
    ) -> None:
        self._strategy, self._executor, self._store = strategy, executor, store
        self._goal, self._settings = goal, settings
        self._listener = listener or (lambda _proposal, _outcome: None)
        self._reused = reused or {}
        self._proposals: dict[int, Proposal] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._failures = 0
        self._devices = KnownDevices.of_store(store)

    def run(self) -> None:
        """Search until the budget is used or the space is exhausted.

        Raises:
            EvaluationError: Too many evaluations failed in a row; everything finished is saved.
        """
        (self._run_asynchronous if self._settings.asynchronous else self._run_batches)()

    # -- batch by batch: any number of workers gives the same search ----------------------------------

    def _run_batches(self) -> None:
        batches, retries = self._replayed()
        for kind, ref in self._store.events():
            if kind == "propose":
                self._strategy.replay(self._store.rows(batches[ref]))
                self._finish_batch(batches[ref])
            elif kind == "retry":
                self._finish_retry(retries[ref])
        if retry := self._new_retry(retries.values()):
            self._finish_retry(retry)
        while batch := self._ask(self._settings.batch_size):
            self._finish_batch(batch)

    def _finish_batch(self, batch: list[Proposal]) -> None:
        """Evaluate what is not evaluated yet and tell the whole batch in the order of asking."""
        self._evaluate([p for p in batch if p.id not in self._outcomes])
        self._tell(batch)

    def _finish_retry(self, retry: Retry) -> None:
        """Evaluate what of a round of retries is not evaluated yet and tell the whole round."""
        self._outcomes |= retry.outcomes
        proposals = [self._proposals[id_] for id_ in retry.ids]
        self._evaluate([p for p in proposals if p.id not in retry.outcomes])
        self._tell(proposals)

    def _evaluate(self, proposals: list[Proposal]) -> None:
        self._submit(proposals)
        while self._executor.in_flight:
            self._record_all(self._executor.wait())

    # -- one by one: every worker is always busy; the order is that of the log ------------------------

    def _run_asynchronous(self) -> None:
        batches, retries = self._replayed()
        again: dict[int, Retry] = {}
        for kind, ref in self._store.events():
            if kind == "propose":
                self._strategy.replay(self._store.rows(batches[ref]))
            elif kind == "evaluate":
                self._tell([self._proposals[ref]])
            elif kind == "retry":
                again |= dict.fromkeys(retries[ref].ids, retries[ref])
            elif kind == "retried":
                self._outcomes[ref] = again.pop(ref).outcomes[ref]
                self._tell([self._proposals[ref]])
        if retry := self._new_retry(retries.values()):
            again |= dict.fromkeys(retry.ids, retry)
        self._submit([p for p in self._proposals.values() if p.id not in self._outcomes or p.id in again])
        while True:
            while self._executor.in_flight < self._executor.slots and (batch := self._ask(1)):
                self._submit(batch)
            if not self._executor.in_flight:
                return
            for outcome in self._record_all(self._executor.wait()):
                self._tell([self._proposals[outcome.id]])

    # -- shared --------------------------------------------------------------------------------------

    def _replayed(self) -> tuple[dict[int, list[Proposal]], dict[int, Retry]]:
        """Read the store: batches of proposals and rounds of retries by number; outcomes are those told first."""
        self._proposals = self._store.proposals()
        self._outcomes = self._store.first_outcomes()
        for id_, outcome in self._store.outcomes().items():
            self._devices.check(outcome.device)
            self._listener(self._proposals[id_], outcome)
        batches: dict[int, list[Proposal]] = {}
        for proposal in self._proposals.values():
            batches.setdefault(proposal.batch, []).append(proposal)
        return batches, {retry.number: retry for retry in self._store.retries()}

    def _new_retry(self, retries: Iterable[Retry]) -> Retry | None:
        """Log a round of what failed, where that is asked for; what an interrupted round still does is not asked."""
        doing = {id_ for retry in retries for id_ in retry.ids if id_ not in retry.outcomes}
        failed = [id_ for id_, outcome in self._outcomes.items() if outcome.status != "ok" and id_ not in doing]
        return self._store.retry(failed) if failed and self._settings.retry_failed else None

    def _ask(self, n: int) -> list[Proposal]:
        wanted = min(n, self._settings.budget - len(self._proposals))
        if wanted <= 0:
            return []
        G = self._strategy.ask(wanted)
        if not len(G):
            return []
        predicted = _by_row(self._strategy.predictions(G), len(G))
        batch = self._store.propose(G, seed=self._settings.seed, origin=self._settings.origin, predicted=predicted)
        self._proposals |= {p.id: p for p in batch}
        return batch

    def _submit(self, proposals: list[Proposal]) -> None:
        architectures = self._store.space.decode(self._store.rows(proposals))
        self._executor.submit([self._job(p, a) for p, a in zip(proposals, architectures, strict=True)])

    def _job(self, proposal: Proposal, arch: Mapping[str, Any]) -> Job:
        """Return what is to be evaluated of a proposal: everything, or what no earlier run tells."""
        part = self._reused.get(proposal.row)
        if part is None:
            return Job(proposal.id, arch)
        scores = {m for m in self._goal.metrics if not is_measured(m)}
        scored = any(not is_measured(m) for m in part.values) and scores <= part.values.keys()
        costs = tuple(m for m in self._goal.metrics if is_measured(m) and m not in part.values)
        return Job(proposal.id, arch, None if scored else "search", costs)

    def _record_all(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Record all that came together, also where one of them ends the run."""
        error: EvaluationError | None = None
        for outcome in outcomes:
            try:
                self._record(outcome)
            except EvaluationError as found:
                error = error or found
        if error is not None:
            raise error
        return outcomes

    def _record(self, outcome: Outcome) -> None:
        if outcome.status == "ok" and (part := self._reused.get(self._proposals[outcome.id].row)):
            outcome = joined(outcome, part)
        outcome = _checked(outcome, self._goal)
        self._devices.check(outcome.device)
        if outcome.id in self._outcomes:
            self._store.append_retried(outcome)
        else:
            self._store.append(outcome)
        self._outcomes[outcome.id] = outcome
        self._listener(self._proposals[outcome.id], outcome)
        self._failures = 0 if outcome.status == "ok" else self._failures + 1
        if self._failures >= self._settings.max_consecutive_failures:
            raise EvaluationError(
                f"{self._failures} evaluations failed in a row, the last with: {outcome.error}. Everything finished "
                f"is saved in {self._store.path}; mend the cause, then go on with --resume {self._store.path.parent} "
                "--retry-failed"
            )

    def _tell(self, proposals: list[Proposal]) -> None:
        outcomes = [self._outcomes[p.id] for p in proposals]
        self._strategy.tell(self._store.rows(proposals), self._goal.values(outcomes), self._goal.violations(outcomes))


def joined(outcome: Outcome, part: Part) -> Outcome:
    """Return the outcome with the values of another part, which says where they come from."""
    mine = Part(dict(outcome.values), dict(outcome.std), dict(outcome.measured), dict(outcome.device))
    return replace(outcome, **vars(mine.joined(part)))


def _by_row(predicted: Mapping[str, NDArray[np.float64]] | None, n: int) -> list[dict[str, float]]:
    """Return predictions row by row, without those that are not there (NaN)."""
    rows: list[dict[str, float]] = [{} for _ in range(n)]
    for metric, values in (predicted or {}).items():
        for row, value in zip(rows, values, strict=True):
            if math.isfinite(value):
                row[metric] = float(value)
    return rows


def _checked(outcome: Outcome, goal: Goal) -> Outcome:
    """Return the outcome, or a failed one where a metric of the goal is missing or not finite."""
    if outcome.status != "ok":
        return outcome
    # Plain floats: an evaluator may bring NumPy's or a tensor's own, which the store cannot write.
    outcome = replace(outcome, values={m: float(v) for m, v in outcome.values.items()})
    bad = [m for m in goal.metrics if not math.isfinite(outcome.values.get(m, math.nan))]
    if not bad:
        return outcome
    return replace(outcome, status="failed", error=f"no finite value of {', '.join(bad)}: {dict(outcome.values)}")
