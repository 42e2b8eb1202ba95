"""The rules of the house, read from the code's syntax: who imports whom, what is light, what every file begins with."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "thesis_assets"

ROOMS = (
    *(
        "errors",
        "layout",
        "storage",
        "schemas",
        "provenance",
        "experiments",
        "settings",
        "pages",
        "launch",
        "images",
        "scenes",
        "rendering",
    ),
    *("demo", "samples", "splits", "tuning", "evaluation", "recordings", "reports", "adoption", "publishing"),
)
"""From the top floor down: a room imports only rooms that stand before it."""
SCRIPTS = ("rerun_export_input_data.py", "rerun_export_evaluation.py", "rerun_export_all.py")
DAGSTER_ROOMS = ("graph", "defs", "definitions", "cli")
HEAVY = {"torch", "torchvision", "accelerate", "rerun", "pandas", "polars", "cv2", "skimage", "scipy", "matplotlib"}
LIGHT_ROOMS = (
    "errors",
    "layout",
    "storage",
    "schemas",
    "experiments",
    "settings",
    "graph",
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


def room_of_module(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "thesis_assets" or len(parts) < 2 or parts[1].startswith("_"):
        return None
    return parts[1]


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(PACKAGE.parent)}:{line}"


def test_every_file_belongs_to_a_room() -> None:
    assert {room_of(path) for path in FILES} - {*ROOMS, *DAGSTER_ROOMS, "__init__"} == set()


def test_a_room_imports_only_rooms_above_it() -> None:
    wrong = [
        f"{place(path, found.line)}: {room_of(path)} imports {found.module}"
        for path in FILES
        for found in imports_of(path)
        if (target := room_of_module(found.module)) is not None and target not in rooms_above(room_of(path))
    ]
    assert wrong == []


def rooms_above(room: str) -> set[str]:
    """The rooms that a room may import, itself included; the graph is values, and knows nobody who does something with them. Settings are read where Dagster is, and passed in elsewhere."""
    if room == "graph":
        return {*ROOMS, room}
    if room in DAGSTER_ROOMS:
        return {*ROOMS, *DAGSTER_ROOMS}
    above = set(ROOMS[: ROOMS.index(room) + 1]) if room in ROOMS else set()
    return above if room == "settings" else above - {"settings"}


def test_only_the_graph_and_the_command_line_know_dagster() -> None:
    wrong = [
        f"{place(path, found.line)}: {found.module}"
        for path in FILES
        for found in imports_of(path)
        if found.module.split(".")[0].startswith("dagster") and room_of(path) not in DAGSTER_ROOMS
    ]
    assert wrong == []


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
