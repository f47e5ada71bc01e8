"""Check that the lower bounds in pyproject.toml are true.

Every dependency is resolved to the lowest version that its bound and the others allow. A bound that the rest of the
set never lets happen is a promise nobody can test, so it fails here, with the bound to write instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
UV = str(ROOT / "scripts" / "uv.sh")
PYTHON = "3.11"
PLATFORM = "x86_64-manylinux_2_28"


def stated_bounds() -> dict[str, Version]:
    """Return the lower bound of every dependency of the project and of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    bounds = {}
    for requirement in map(Requirement, lines):
        if requirement.name == project["name"]:
            continue
        lowest = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==", "~=")]
        if not lowest:
            raise SystemExit(f"pyproject.toml: {requirement} has no lower bound; add one")
        bounds[canonicalize_name(requirement.name)] = max(lowest)
    return bounds


def resolve_lowest() -> dict[str, Version]:
    """Resolve all extras together, each direct dependency as low as it goes.

    Raises:
        SystemExit: The bounds contradict each other; uv has printed why.
    """
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--resolution", "lowest-direct"]
    command += ["--all-extras", "--python-version", PYTHON, "--python-platform", PLATFORM, "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit("the lower bounds do not resolve together; raise the ones named above")
    pins = (Requirement(line) for line in done.stdout.splitlines() if "==" in line)
    return {canonicalize_name(p.name): Version(next(iter(p.specifier)).version) for p in pins}


def install_lowest(folder: Path) -> None:
    """Install the lowest set, with the development tools, into a new environment."""
    subprocess.run([UV, "venv", "--quiet", "--clear", "--python", PYTHON, str(folder)], cwd=ROOT, check=True)
    command = [UV, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    subprocess.run([*command, "--resolution", "lowest-direct", "-e", ".[dev]"], cwd=ROOT, check=True)


def main() -> int:
    """Run the check; the exit status is 1 where a bound is not attainable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", type=Path, metavar="DIR", help="also install the lowest set into DIR")
    args = parser.parse_args()

    bounds, resolved = stated_bounds(), resolve_lowest()
    faults = [
        f"  {name}: pyproject.toml says >={bound}, the lowest that resolves is {resolved[name]}"
        for name, bound in sorted(bounds.items())
        if name in resolved and resolved[name] != bound
    ]
    if faults:
        print("these lower bounds are not attainable; raise them:", *faults, sep="\n", file=sys.stderr)
        return 1
    print(f"{len(bounds)} lower bounds resolve together on Python {PYTHON}, {len(resolved)} packages in all")
    if args.install:
        install_lowest(args.install)
    return 0


if __name__ == "__main__":
    sys.exit(main())
