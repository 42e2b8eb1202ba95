"""Measures the house: files and lines a room, circles, public names that one file uses, files of two walks through it.

    python scripts/measure_rooms.py

A walk is followed while one sample is written, and while the PSNR of one view is computed and checked: the files on the call stacks
from the asset's work to the disk or the metric, and those in which anything else runs; the ground (errors, layout, schemas, storage)
aside. `--files` names them, and the public names that only one other file uses.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import os
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "thesis_assets"
GROUND = ("errors", "layout", "schemas", "storage")
METRIC = ("psnr", "both_psnr", "psnr_channel_sum", "write_tables", "recompute_row")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true")
    named = parser.parse_args().files
    files = sorted(PACKAGE.rglob("*.py"))
    print(f"{'room':16} {'files':>5} {'lines':>7}")
    rooms: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for path in files:
        rooms[room_of(path)] += 1
        lines[room_of(path)] += len(path.read_text(encoding="utf-8").splitlines())
    for room in sorted(rooms):
        print(f"{room:16} {rooms[room]:5} {lines[room]:7,}")
    print(f"{'all':16} {sum(rooms.values()):5} {sum(lines.values()):7,}")
    print(f"circles of files: {n_circles(files)}")
    public, single = names_with_one_user(files)
    print(f"public functions: {public}, of which one other file uses: {len(single)}")
    for name in single if named else ():
        print(f"  {name}")
    for question, walk in (
        ("how is a sample written", write_a_sample),
        ("how is PSNR computed and checked", check_psnr),
    ):
        way, ran = walk()
        print(f"files on the way of '{question}': {len(way)}, and {len(ran - way)} more in which something runs")
        for name in (*sorted(way), *(f"({each})" for each in sorted(ran - way))) if named else ():
            print(f"  {name}")
    return 0


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, modules: set[str]) -> list[tuple[str, str]]:
    """(module, name) of what a file imports from the package, also inside functions; the name is empty where it is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name in modules]
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner, "") if inner in modules else (str(node.module), alias.name))
    return found


def n_circles(files: list[Path]) -> int:
    """How many imports have to go until no file imports itself over others."""
    modules = {module_of(path) for path in files}
    edges = {module_of(path): {module for module, _ in imports_of(path, modules)} - {module_of(path)} for path in files}
    for count in range(sum(map(len, edges.values()))):
        try:
            graphlib.TopologicalSorter(edges).prepare()
        except graphlib.CycleError as error:
            imported, importer = error.args[1][:2]
            edges[importer].discard(imported)
        else:
            return count
    return 0


def names_with_one_user(files: list[Path]) -> tuple[int, list[str]]:
    """How many functions have a name for others, and those of them that one other file of the package uses."""
    modules = {module_of(path) for path in files}
    users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    defined = []
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named: dict[str, str] = {}
        for module, name in imports_of(path, modules):
            if name:
                users[module, name].add(module_of(path))
            else:
                named[module.rsplit(".", 1)[1]] = module
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in named:
                users[named[node.value.id], node.attr].add(module_of(path))
        defined += [
            (module_of(path), node.name)
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        ]
    return len(defined), [".".join(each) for each in defined if len(users[each] - {each[0]}) == 1]


def files_on_the_way(
    do: Callable[[], Any], arrived: Callable[[str, tuple[Any, ...]], bool]
) -> tuple[set[str], set[str]]:
    """The files of the package, the ground aside: those on a call stack at an arrival, and all in which a function runs meanwhile.

    Args:
        arrived: given a called function's name, or an event of the interpreter (`open`, `os.link`) with its arguments.
    """
    package, way, ran = f"{PACKAGE}{os.sep}", set[str](), set[str]()
    listening = True

    def arrive(frame: FrameType | None) -> None:
        while frame is not None:
            way.add(frame.f_code.co_filename)
            frame = frame.f_back

    def called(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package) and frame.f_code.co_name != "<module>":
            ran.add(frame.f_code.co_filename)
            if arrived(frame.f_code.co_name, ()):
                arrive(frame)

    def heard(event: str, args: tuple[Any, ...]) -> None:
        if listening and arrived(event, args):
            arrive(sys._getframe(1))

    sys.addaudithook(heard)
    threading.setprofile(called)
    sys.setprofile(called)
    try:
        do()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        listening = False

    def ours(names: set[str]) -> set[str]:
        short = {name.removeprefix(package) for name in names if name.startswith(package)}
        return {name for name in short if room_of(PACKAGE / name) not in GROUND}

    return ours(way), ours(ran)


def write_a_sample() -> tuple[set[str], set[str]]:
    from benchmarks import evaluation_tree as tree
    from thesis_assets.experiments.spec import GenerationSpec
    from thesis_assets.layout import DifixTree
    from thesis_assets.samples.export import ShardWork, export_shard

    with tempfile.TemporaryDirectory() as name:
        folder, scene = Path(name), tree.SCENES[0]
        tree.write_scene(folder, scene, 1, 0)
        generation = GenerationSpec.model_validate({"scenes": [scene], "renders": {"source": "precomputed"}})
        work = ShardWork(DifixTree(folder / "difix", "e"), tree.roots(folder), scene, generation, "pair00")

        def written(event: str, args: tuple[Any, ...]) -> bool:
            made = args[0] if event == "open" and set(str(args[1])) & set("wxa+") else event == "os.link" and args[1]
            return str(folder / "difix") in str(made)

        return files_on_the_way(lambda: export_shard(work), written)


def check_psnr() -> tuple[set[str], set[str]]:
    from benchmarks import evaluation_tree as tree
    from thesis_assets.evaluation.checks import check_metrics_recompute
    from thesis_assets.evaluation.input_data import link_input_data
    from thesis_assets.evaluation.nvs import measure_views
    from thesis_assets.evaluation.scene_steps import predict_views
    from thesis_assets.evaluation.shared_work import SceneEpochs, joined
    from thesis_assets.launch.mapping import map_items

    with tempfile.TemporaryDirectory() as name:
        folder, scene = Path(name), tree.SCENES[0]
        tree.write_scene(folder, scene, 1, 0)
        tree.write_checkpoint(folder, tree.STEPS[-1])
        cell = tree.open_cell(folder, scene, epochs=[0])
        link_input_data(cell)
        part = SceneEpochs(cell, (0,))
        joined(map_items(predict_views, [part], workers=1)).raise_failures()

        def measure_and_check() -> None:
            joined(map_items(measure_views, [part], workers=1)).raise_failures()
            assert check_metrics_recompute(cell).passed

        return files_on_the_way(measure_and_check, lambda name, _: name in METRIC)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
