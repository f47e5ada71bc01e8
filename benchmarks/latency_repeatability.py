"""How well latency repeats: the same subnet measured again and again, each time in a new process.

    python benchmarks/latency_repeatability.py

appends one row per measurement to results/latency_repeatability.csv, skips those that the file has already for
this machine, and prints the relative spread (IQR / median) of the medians.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "results" / "latency_repeatability.csv"
KEY = ("space", "subnet", "setting", "repeat", "fingerprint")
COLUMNS = (
    *KEY, "median_ms", "iqr_ms", "mean_ms", "min_ms", "n", "reference_ms", "drift", "warm", "elapsed_s",
    "device", "command",
)  # fmt: skip
SETTINGS = ("cpu:eager", "cpu:onnxruntime")


def measure(space: str, subnet: str, setting: str) -> dict[str, object]:
    """Build one subnet and measure it once; the smallest, the largest, or one sampled with a seed."""
    import torch

    from predictors.measurement import LatencySetting, measure_latency
    from supernets import build

    torch.manual_seed(0)
    net = build(space, in_channels=1, num_classes=10)
    rows = {"smallest": net.space.smallest, "largest": net.space.largest}
    row = rows[subnet] if subnet in rows else net.space.sample(1, np.random.default_rng(int(subnet)))[0]
    arch = net.space.decode(np.asarray(row)[None])[0]
    wanted = LatencySetting.parse(setting)
    inputs = net.example_inputs(arch, batch_size=wanted.batch)
    return measure_latency(net.extract(arch), inputs, wanted).to_json()


def in_new_process(space: str, subnet: str, setting: str) -> dict:
    command = [sys.executable, __file__, "--once", "--space", space, "--subnet", subnet, "--setting", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def read(table: Path) -> list[dict[str, str]]:
    if not table.exists():
        return []
    with table.open(newline="") as f:
        return list(csv.DictReader(f))


def append(table: Path, row: dict[str, object]) -> None:
    new = not table.exists()
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("a", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def summarise(rows: list[dict[str, str]], fingerprints: set[str]) -> None:
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        if row["fingerprint"] in fingerprints:
            groups.setdefault((row["space"], row["subnet"], row["setting"]), []).append(row)
    print(f"{'subnet':32}{'setting':52}{'n':>4}{'median ms':>11}{'IQR/median':>12}{'range/median':>14}{'within':>9}")
    for (space, subnet, setting), group in groups.items():
        medians = np.array([float(r["median_ms"]) for r in group])
        within = np.median([float(r["iqr_ms"]) / float(r["median_ms"]) for r in group])
        low, middle, high = np.percentile(medians, [25, 50, 75])
        print(
            f"{space + ' ' + subnet:32}{setting:52}{len(group):>4}{middle:>11.3f}{(high - low) / middle:>12.2%}"
            f"{np.ptp(medians) / middle:>14.2%}{within:>9.2%}"
        )
    print("within: median relative IQR of the samples of one measurement")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3-tiny")
    parser.add_argument("--subnet", action="append", help="smallest, largest or a seed; may be repeated")
    parser.add_argument("--setting", action="append", help=f"may be repeated; default: {' '.join(SETTINGS)}")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--once", action="store_true", help="measure once in this process and print JSON")
    args = parser.parse_args()
    subnets, settings = args.subnet or ["smallest", "largest"], args.setting or list(SETTINGS)
    sys.path.insert(0, str(ROOT))
    if args.once:
        print(json.dumps(measure(args.space, subnets[0], settings[0])))
        return

    from predictors.measurement import LatencySetting, describe_device

    command = shlex.join(["python", "benchmarks/latency_repeatability.py", *sys.argv[1:]])
    parsed = [LatencySetting.parse(s) for s in settings]
    prints = {str(s): describe_device(s).fingerprint for s in parsed}
    done = {tuple(row[k] for k in KEY) for row in read(args.table)}
    # Repeats outermost: a disturbance of the machine is then shared by all settings, not charged to one.
    for repeat in range(args.repeats):
        for setting in map(str, parsed):
            for subnet in subnets:
                key = (args.space, subnet, setting, str(repeat), prints[setting])
                if key in done:
                    continue
                got = in_new_process(args.space, subnet, setting)
                device = ", ".join(str(got["device"][k]) for k in ("cpu", "os", "torch", "onnxruntime", "gpu"))
                row = {k: got[k] for k in COLUMNS if k in got} | dict(zip(KEY, key, strict=True))
                append(args.table, {**row, "device": device, "command": command})
                print(f"{repeat:>3} {subnet:10} {setting:52} {got['median_ms']:.3f} ms")
    summarise(read(args.table), set(prints.values()))


if __name__ == "__main__":
    main()
