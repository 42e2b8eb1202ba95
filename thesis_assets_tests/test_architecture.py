"""The rules of the house: who imports whom (contracts of import-linter in pyproject.toml, held by `make lint`), what is light, what every
file begins with."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "thesis_assets"

SCRIPTS = ("rerun_export_input_data.py", "rerun_export_evaluation.py", "rerun_export_all.py")
HEAVY = {"torch", "torchvision", "accelerate", "rerun", "pandas", "polars", "cv2", "skimage", "scipy", "matplotlib"}
LIGHT_ROOMS = (
    "errors",
    "layout",
    "storage",
    "schemas",
    "experiments",
    "settings",
    "graph",
    "operations",
    "defs",
    "definitions",
    "cli",
)


@dataclass(frozen=True)
class Import:
    """One imported module, and whether importing the file already runs it."""

    module: str
    line: int
    at_load: bool


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path: Path) -> list[Import]:
    return list(_imports(parsed(path), at_load=True))


def _imports(node: ast.AST, *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports name the whole package"
            module = child.module or ""
            # `from thesis_assets import storage` imports a room, not a name.
            names = [alias.name for alias in child.names] if module == "thesis_assets" else [""]
            yield from (Import(f"{module}.{name}".rstrip("."), child.lineno, at_load) for name in names)
        else:
            in_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for part in child.body:
                    yield from _imports(ast.Module([part], []), at_load=False)
                for part in child.orelse:
                    yield from _imports(ast.Module([part], []), at_load=at_load)
            else:
                yield from _imports(child, at_load=at_load and not in_function)


def room_of(path: Path) -> str:
    """The scripts that the output document names lie where it says, and count as the command line."""
    return "cli" if path.name in SCRIPTS else path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(PACKAGE.parent)}:{line}"


def test_loading_the_graph_or_a_schema_imports_nothing_heavy() -> None:
    """Heavy imports stand inside functions, so that the UI, the daemon and `--help` start at once."""
    wrong = [
        f"{place(path, found.line)}: {found.module}"
        for path in FILES
        for found in imports_of(path)
        if found.at_load
        and found.module.split(".")[0] in HEAVY
        and (room_of(path) in LIGHT_ROOMS or path.name == "__init__.py")
    ]
    assert wrong == []


def test_a_file_begins_by_saying_its_subject() -> None:
    assert [place(path, 1) for path in FILES if not (ast.get_docstring(parsed(path)) or "").strip()] == []


def test_the_graphs_files_keep_real_annotations() -> None:
    """Dagster builds configuration from the annotations: as text they are of no use to it."""
    wrong = [
        place(path, found.line)
        for path in FILES
        for found in imports_of(path)
        if found.module == "__future__" and room_of(path) in ("defs", "definitions")
    ]
    assert wrong == []


def test_no_error_is_caught_and_dropped() -> None:
    wrong = [
        place(path, node.lineno)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and all(isinstance(part, ast.Pass) for part in node.body)
    ]
    assert wrong == []


def test_what_is_not_built_is_refused_with_a_remedy() -> None:
    """`errors.NotBuiltYet` says what to do instead; Python's own `NotImplementedError` does not."""
    wrong = [
        place(path, node.lineno)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc).startswith("NotImplementedError")
    ]
    assert wrong == []


def modules_loaded_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    assert not modules_loaded_by("import thesis_assets.definitions") & HEAVY


def test_the_values_of_the_house_load_without_dagster_and_numpy() -> None:
    loaded = modules_loaded_by("import thesis_assets.experiments, thesis_assets.layout, thesis_assets.schemas.samples")

    assert not loaded & (HEAVY | {"dagster", "numpy", "PIL"})


# --- the rules see what they are for ---------------------------------------------------------------------------------


def contracts_kept(folder: Path) -> dict[str, bool]:
    """By contract whether the package in a folder keeps it."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    found = dict(re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, re.MULTILINE))
    assert done.returncode == int("BROKEN" in found.values()), done.stdout + done.stderr
    return {name: outcome == "KEPT" for name, outcome in found.items()}


def test_each_contract_is_broken_by_an_import_that_it_is_against_wherever_it_stands(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "pyproject.toml", tmp_path)
    assert set(contracts_kept(tmp_path).values()) == {True}

    for file, module in (
        ("samples/plan.py", "thesis_assets.graph.cells"),
        ("samples/shards.py", "thesis_assets.samples.export"),
        ("images/codecs.py", "dagster"),
        ("tuning/backends.py", "thesis_assets.settings"),
        ("cli/main.py", "thesis_assets.evaluation.qualitative.rerun_export_all"),
    ):
        with (tmp_path / PACKAGE.name / file).open("a") as handle:
            handle.write(f"\n\ndef _wrong() -> None:\n    import {module}\n")

    assert set(contracts_kept(tmp_path).values()) == {False}


def test_an_import_is_found_wherever_it_stands(tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "from thesis_assets import storage, layout\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\nelse:\n    import polars\n"
        "try:\n    import cv2\nexcept ImportError:\n    cv2 = None\n"
        "class A:\n    import scipy\n    def f(self):\n        from rerun import x\n"
    )
    path = tmp_path / "a.py"
    path.write_text(code)

    found = {(found.module, found.at_load) for found in imports_of(path)}

    assert found == {
        *(("torch", True), ("thesis_assets.storage", True), ("thesis_assets.layout", True), ("typing", True)),
        *(("pandas", False), ("polars", True), ("cv2", True), ("scipy", True), ("rerun", False)),
    }
