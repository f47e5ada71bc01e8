"""The commands and examples in the documentation are those that the program has."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = Path(sys.executable).parent / "nassearch"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Return the shell commands of a page as words, comments left out."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def documented_options() -> dict[str, dict[str, str]]:
    """Return subcommand -> option -> the page that shows it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for page in PAGES:
        for words in commands(page):
            if words[0] == "nassearch" and len(words) > 1 and not words[1].startswith("-"):
                # `submit … -- run …` holds a command of its own.
                own, _, inner = " ".join(words[1:]).partition(" -- ")
                for part in filter(None, (own.split(), inner.split())):
                    found[part[0]] |= {w.split("=")[0]: page.name for w in part[1:] if w.startswith("--")}
    return found


@cache
def help_of(subcommand: str) -> str:
    environment = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [PROGRAM, subcommand, "--help"], capture_output=True, text=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DOCUMENTED = documented_options()


@pytest.mark.parametrize("subcommand", sorted(DOCUMENTED))
def test_documented_commands_and_options_exist(subcommand):
    known = set(re.findall(r"--[a-z][a-z-]*", help_of(subcommand)))
    unknown = {option: page for option, page in DOCUMENTED[subcommand].items() if option not in known}
    assert unknown == {}


def test_demo_uses_options_that_exist():
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    options = set(re.findall(r"--[a-z][a-z-]*", recipe[1]))
    assert "--overwrite" in options, "make demo starts afresh each time"
    assert options <= set(re.findall(r"--[a-z][a-z-]*", help_of("run")))


def test_documented_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for page in PAGES for words in commands(page) if words[0] == "make" and len(words) > 1}
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_are_python(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_own_space_example_runs():
    example = next(
        b for b in blocks(ROOT / "docs" / "user-guide" / "own-model-and-data.md", "python") if "def my_space" in b
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{example}\nspace = my_space()\nprint(space.n_genotypes, space.n_distinct)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["16", "12"], done.stderr
