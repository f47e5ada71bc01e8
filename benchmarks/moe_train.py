"""Train a small Mixture-of-Experts language model on five domains, so that there is one to search.

    python benchmarks/moe_train.py --data DIR --out FOLDER
    python benchmarks/moe_train.py --data DIR --out FOLDER --size oracle

A Qwen3-MoE of transformers from random weights, with a byte-level BPE vocabulary of 2,048 of its own. The loss that
balances the load is small, and of each layer over whole batches, in which all domains are: experts may specialise.
FOLDER gets ``model/`` (``save_pretrained``, with the tokenizer), ``text/DOMAIN/`` (see `moe_texts`), ``loss.csv`` (loss
of each domain on the search split) and a checkpoint, from which a stopped training goes on. ``--measure`` times steps
of each implementation and type instead.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moe_texts import DOMAINS, make_tokenizer, read_domains, token_blocks, write_texts
from numpy.typing import NDArray
from rows import append_row
from torch import Tensor

LENGTH, PER_DOMAIN, WARMUP, VOCABULARY = 128, 4, 60, 2048
BALANCE, LEARNING_RATE, WEIGHT_DECAY = 0.003, 3e-3, 0.1
EVALUATE_EVERY, CHECKPOINT_EVERY = 250, 100
SIZES: dict[str, dict[str, int]] = {
    "main": {"hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
             "head_dim": 32, "moe_intermediate_size": 128, "num_experts": 16, "num_experts_per_tok": 2},
    "oracle": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
               "head_dim": 32, "moe_intermediate_size": 128, "num_experts": 8, "num_experts_per_tok": 2},
}  # fmt: skip


def build(size: str, implementation: str, seed: int) -> Any:
    """Return the model with random weights, and its tied embeddings."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(seed)
    config = Qwen3MoeConfig(
        **SIZES[size], vocab_size=VOCABULARY, intermediate_size=512, max_position_embeddings=512, norm_topk_prob=True,
        tie_word_embeddings=True, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    model = Qwen3MoeForCausalLM(config)
    model.set_experts_implementation(implementation)
    return model


def balance_loss(logits: tuple[Tensor, ...], k: int) -> Tensor:
    """Return the load-balancing loss of Switch Transformers, the mean over layers; 1 where the load is even."""
    total = torch.zeros(())
    for layer in logits:
        p = layer.float().softmax(-1)
        load = torch.zeros_like(p).scatter_(1, p.topk(k).indices, 1.0).mean(0) / k
        total = total + p.shape[1] * (load * p.mean(0)).sum()
    return total / len(logits)


def step_loss(model: Any, batch: Tensor, amp: bool) -> tuple[Tensor, Tensor]:
    """Return the loss that is trained, and the mean negative log-likelihood of a token."""
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        out = model(batch, output_router_logits=True, labels=None)
    nll = torch.nn.functional.cross_entropy(out.logits[:, :-1].float().flatten(0, 1), batch[:, 1:].flatten())
    return nll + BALANCE * balance_loss(out.router_logits, model.config.num_experts_per_tok), nll.detach()


def draw(blocks: dict[str, NDArray[np.int64]], seed: int, step: int) -> Tensor:
    """Return a batch with the same number of blocks of each domain, int64 ``[blocks, length]``."""
    rng = np.random.default_rng((seed, step))
    return torch.from_numpy(np.concatenate([b[rng.choice(len(b), PER_DOMAIN, False)] for b in blocks.values()]))


@torch.no_grad()
def domain_losses(model: Any, blocks: dict[str, NDArray[np.int64]], most: int = 32) -> dict[str, float]:
    """Return the mean negative log-likelihood of a token of each domain."""
    model.eval()
    losses = {d: float(step_loss(model, torch.from_numpy(b[:most]), False)[1]) for d, b in blocks.items()}
    model.train()
    return losses


def learning_rate(step: int, total: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to a twentieth."""
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    return LEARNING_RATE * (0.05 + 0.475 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, total - WARMUP))))


def train(model: Any, blocks: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    """Train to the last step, from the checkpoint where there is one."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    groups = [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2]},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    first, spent, file = 0, 0.0, args.out / "checkpoint.pt"
    if file.is_file():
        kept = torch.load(file, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        first, spent = kept["step"], kept["cpu_s"]
    began, wall = time.process_time(), time.monotonic()
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        loss, nll = step_loss(model, draw(blocks["train"], args.seed, step), args.dtype == "bf16")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done, cpu = step + 1, spent + time.process_time() - began
        if done % 25 == 0:
            print(f"{done}/{args.steps} nll {nll:.3f} {cpu:.0f} CPU s {time.monotonic() - wall:.0f} s", flush=True)
        if done % EVALUATE_EVERY == 0 or done == args.steps:
            losses = domain_losses(model, blocks["search"])
            row = [done, f"{cpu:.0f}", *(f"{v:.4f}" for v in losses.values())]
            append_row(args.out / "loss.csv", ["step", "cpu_s", *DOMAINS], row)
        if done % CHECKPOINT_EVERY == 0 or done == args.steps:
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done, "cpu_s": cpu}
            torch.save(kept, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)


def measure(blocks: dict[str, Any], args: argparse.Namespace) -> None:
    """Print tokens a CPU second of training steps."""
    for implementation in ("grouped_mm", "eager", "batched_mm"):
        for dtype in ("f32", "bf16"):
            model, times = build(args.size, implementation, args.seed).train(), []
            for step in range(args.measure):
                batch, began = draw(blocks["train"], args.seed, step), time.process_time()
                try:
                    step_loss(model, batch, dtype == "bf16")[0].backward()
                except RuntimeError as error:
                    print(implementation, dtype, "fails:", str(error).splitlines()[0])
                    break
                times.append(time.process_time() - began)
            if times:
                print(f"{implementation} {dtype} {batch.numel() / min(times):.0f} tokens/s", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=sorted(SIZES), default="main")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--implementation", default="grouped_mm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", type=int, default=0, metavar="STEPS")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    texts = read_domains(args.data, args.seed)
    tokenizer = make_tokenizer(texts, VOCABULARY)
    blocks = {split: token_blocks(texts, tokenizer, split, LENGTH) for split in ("train", "search")}
    print({split: {d: b.size for d, b in part.items()} for split, part in blocks.items()}, flush=True)
    if args.measure:
        measure(blocks, args)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    write_texts(texts, args.out / "text")
    model = build(args.size, args.implementation, args.seed).train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    train(model, blocks, args)
    model.config.use_cache = True
    model.eval().save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
