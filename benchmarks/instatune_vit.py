"""InstaTune on a small Vision Transformer: pre-trained on five classes of CIFAR-10, fine-tuned on the other five.

The pre-training is a plain training from nothing, kept in --work. Jobs, tables and how they resume: see
instatune_jobs.py.

    python benchmarks/instatune_vit.py --data DIR/cifar10_jpeg --jobs plain:0 g1:0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from instatune_finetune import finetune_job
from instatune_jobs import CHECKPOINT_EVERY, Spent, Study, parser, print_table, run_job

if TYPE_CHECKING:
    from torch import nn

    from nassearch.tasks.base import Task

CLASSES = {"first": (0, 2, 4, 6, 8), "second": (1, 3, 5, 7, 9)}
BATCH_SIZE = 64


def split_by_class(source: Path, target: Path, classes: tuple[int, ...]) -> Path:
    """Write the encoded images of some classes to train.npz and test.npz in a folder.

    Args:
        source: Folder with train.npz and test.npz: blob, offset and label.
        target: Made if it does not exist.
        classes: Those that are kept.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in ("train.npz", "test.npz"):
        with np.load(source / name, allow_pickle=False) as data:
            blob, offset, label = data["blob"], data["offset"].astype(np.int64), data["label"]
        kept = np.flatnonzero(np.isin(label, classes))
        pieces = [blob[offset[i] : offset[i + 1]] for i in kept]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(p) for p in pieces])])
        np.savez(target / name, blob=np.concatenate(pieces), offset=starts, label=label[kept])
    return target


def make_model(seed: int) -> nn.Module:
    """Return a Vision Transformer with random weights: 6 layers, 4 heads, width 128, 64 patches of 4 x 4 pixels."""
    import timm
    import torch

    torch.manual_seed(seed)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4, num_classes=5
    )


def pretrain(task: Task, args: argparse.Namespace) -> dict[str, Any]:
    """Return the weights after a plain training, from --work where it is done already."""
    from safetensors.torch import load_file, save_file

    from supernets import convert
    from supernets.training import TrainSettings, logits_of, method_settings, train

    path = args.work / "pretrained.safetensors"
    if not path.is_file():
        model = make_model(0)
        net = convert(model)
        given = {
            "epochs": args.pretrain_epochs, "lr": 1e-3, "amp": args.amp, "checkpoint_every": CHECKPOINT_EVERY,
            "options": {"alpha": 1.0, "random_subnets": 0},
        }  # fmt: skip
        report = train(
            net,
            task.training_data(BATCH_SIZE, 0),
            lambda outputs, targets: task.loss(logits_of(outputs), targets),
            method="instatune",
            settings=TrainSettings(**{**method_settings("instatune"), **given}),
            device="cpu",
            checkpoint_dir=args.work / "pretraining",
            resume=True,
            progress=Spent(args.work / "pretraining" / "spent.json"),
        )
        print(f"pre-trained: {report.top1_largest:.2f} % on a part of the search split", flush=True)
        (largest,) = net.space.decode(net.space.largest[None])
        save_file(net.extract(largest).state_dict(), path)
    return load_file(path)


def main() -> None:
    """Pre-train, train and search what is missing, then print the table."""
    made = parser(__doc__, "instatune_vit")
    made.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz of encoded images")
    made.add_argument("--pretrain-epochs", type=int, default=10)
    made.add_argument("--epochs", type=int, default=5)
    made.add_argument("--lr", type=float, default=3e-4)
    args = made.parse_args()
    if args.jobs or args.finetune:
        import torch

        from nassearch.tasks import make_task

        torch.set_num_threads(args.threads)
        folders = {n: split_by_class(args.data, args.work / n, classes) for n, classes in CLASSES.items()}
        tasks = {n: make_task(f"cifar10:{folder}") for n, folder in folders.items()}
        weights = pretrain(tasks["first"], args)

        def pretrained(seed: int) -> nn.Module:
            model = make_model(seed)
            model.load_state_dict({n: t for n, t in weights.items() if not n.startswith("head.")}, strict=False)
            return model

        study = Study(tasks["second"], pretrained, batch_size=BATCH_SIZE)
        for way, seed in args.jobs:
            run_job(way, seed, study, args)
        for way, seed in args.finetune:
            finetune_job(way, seed, study, args)
    print_table(args.out)


if __name__ == "__main__":
    main()
