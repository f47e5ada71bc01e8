"""What the repository promises as a whole: the archive, the licence, who imports whom, and what no file may contain."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nassearch", "supernets", "predictors", "search_spaces")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400

# What `import nassearch` and the start of the command line must not pay for.
HEAVY = ("torch", "ray", "transformers", "timm", "xgboost", "sklearn", "pymoo", "optuna", "matplotlib", "plotly")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- archive, licence, versions


@pytest.mark.slow  # hatchling is fetched into an isolated environment
def test_wheel_holds_the_four_packages_and_their_type_markers(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        uv = shutil.which("uv")
        assert uv, "neither pip nor uv is there to build the wheel"
        command = [uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {relative(path) for path in SOURCES} <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_every_package_is_typed():
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_version_is_the_same_everywhere():
    import nassearch

    assert metadata.version("nassearch") == PROJECT["version"]
    assert getattr(nassearch, "__version__", PROJECT["version"]) == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_console_script_is_installed():
    scripts = {entry.name: entry.value for entry in metadata.entry_points(group="console_scripts")}
    assert scripts["nassearch"] == PROJECT["scripts"]["nassearch"]


def requirement_sets(lines: list[str]) -> set[tuple[str, str]]:
    requirements = map(Requirement, lines)
    return {(canonicalize_name(r.name), str(r.specifier)) for r in requirements}


def test_lock_agrees_with_pyproject():
    (ours,) = (package for package in LOCK["package"] if package["name"] == "nassearch")
    locked = {
        (entry["name"], str(Requirement(entry["name"] + entry.get("specifier", "")).specifier))
        for entry in ours["metadata"]["requires-dist"]
    }
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    assert locked == requirement_sets([*PROJECT["dependencies"], *extras]), "run `make lock`"


def test_lock_names_only_the_public_index():
    text = (ROOT / "uv.lock").read_text()
    assert set(re.findall(r'registry = "([^"]+)"', text)) == {"https://pypi.org/simple"}
    assert set(re.findall(r'url = "https?://([^/"]+)', text)) == {"files.pythonhosted.org"}


def test_linter_versions_agree_with_pre_commit():
    pinned = re.search(r"ruff-pre-commit\n\s+rev: v([\d.]+)", (ROOT / ".pre-commit-config.yaml").read_text())
    locked = {
        package["name"]: package.get("version") for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    assert pinned is not None
    assert pinned[1] == locked["ruff"]


# --- imports


def imported_packages(path: Path) -> set[str]:
    """Top-level names imported anywhere in a file, late imports included; relative imports stay inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


ALLOWED = {
    "search_spaces": {"search_spaces"},
    "supernets": {"search_spaces", "supernets"},
    "predictors": {"search_spaces", "predictors"},
    "nassearch": set(PACKAGES),
}


def test_imports_follow_the_layers():
    faults = []
    for path in SOURCES:
        package, imported = relative(path).split("/")[0], imported_packages(path)
        wrong = (imported & set(PACKAGES) - ALLOWED[package]) | (imported & {"tests", "benchmarks", "scripts"})
        if package == "search_spaces":
            wrong |= imported & set(HEAVY)  # numpy only
        faults += [f"{relative(path)} imports {name}" for name in sorted(wrong)]
    assert faults == []


def test_import_linter_contracts_are_kept():
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["nassearch", "nassearch.cli"])
def test_start_up_loads_nothing_heavy(module):
    code = f"import {module}, sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


# --- what no file may contain


def call_name(node: ast.Call) -> str:
    """The dotted name that a call is made by, as far as it is written out: ``pickle.load``, ``.eval``."""
    parts: list[str] = []
    function: ast.AST = node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    parts.append(function.id if isinstance(function, ast.Name) else "")
    return ".".join(reversed(parts))


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}
FORBIDDEN_ARGUMENTS = {"shell": True, "allow_pickle": True, "weights_only": False}


def forbidden(source: str) -> list[str]:
    """Return what a source file does that SECURITY.md rules out, one line each."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            faults += [f"{node.lineno}: imports {m}" for m in modules if m.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.Call):
            name = call_name(node)
            if name in FORBIDDEN_CALLS:
                faults.append(f"{node.lineno}: calls {name}")
            given = {k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)}
            faults += [
                f"{node.lineno}: {argument}={value}"
                for argument, value in FORBIDDEN_ARGUMENTS.items()
                if given.get(argument) is value
            ]
            if name == "torch.load" and given.get("weights_only") is not True:
                faults.append(f"{node.lineno}: torch.load without weights_only=True")
            if given.get("trust_remote_code") is True:
                faults.append(f"{node.lineno}: trust_remote_code=True is the user's to say")
            if name == "sys.exit" or name == "exit":
                faults.append(f"{node.lineno}: {name} in a library")
        elif isinstance(node, ast.ExceptHandler):
            if node.type is None:
                faults.append(f"{node.lineno}: bare except")
            if len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
                faults.append(f"{node.lineno}: an error is silently dropped")
    return faults


def test_no_forbidden_construct():
    entry_points = {
        "nassearch/cli/__init__.py",
        "nassearch/__main__.py",
        "nassearch/submit/job.py",
    }  # these may end the process
    assert [
        f"{relative(path)}:{fault}"
        for path in SOURCES
        for fault in forbidden(path.read_text())
        if not (relative(path) in entry_points and "in a library" in fault)
    ] == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("eval('1')", "calls eval"),
        ("yaml.load(f)", "calls yaml.load"),
        ("subprocess.run(c, shell=True)", "shell=True"),
        ("np.load(f, allow_pickle=True)", "allow_pickle=True"),
        ("torch.load(f)", "torch.load without weights_only=True"),
        ("torch.load(f, weights_only=False)", "weights_only=False"),
        ("AutoModel.from_pretrained(n, trust_remote_code=True)", "trust_remote_code=True"),
        ("try:\n    f()\nexcept:\n    g()", "bare except"),
        ("try:\n    f()\nexcept ValueError:\n    pass", "silently dropped"),
    ],
)
def test_scan_finds_what_is_forbidden(source, fault):
    assert any(fault in line for line in forbidden(source))


def test_scan_lets_the_safe_forms_pass():
    safe = "model.eval()\nyaml.safe_load(f)\ntorch.load(f, weights_only=True)\nre.compile('x')\ntorch.compile(m)\n"
    assert forbidden(safe) == []


def test_files_stay_readable():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}, "split them by concept"
