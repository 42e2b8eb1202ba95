"""`thesis-assets doctor`: what this machine has, what is missing, and the fix for each."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer

from thesis_assets.cli.console import FAILED, JsonOption, human_bytes, load_platform, print_json, print_table
from thesis_assets.cli.doctor_machine import Finding, machine
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.settings import Settings

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "gpfs", "lustre", "beegfs", "cifs", "smb3", "ceph", "fuse.sshfs", "9p", "afs"}
"""Where SQLite locks and corrupts."""
LOW_SPACE_BYTES = 5_000_000_000


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has and lacks, with the fix for each.

    Versions, roots and their free space, GPU, Slurm, ffmpeg, Vulkan, body models, LPIPS weights, Hub token (never its value).
    """
    platform = load_platform()
    settings = platform.settings
    findings = [
        *_versions(),
        *_roots(settings),
        *_moves(platform),
        *_dagster_home(settings),
        *machine(settings),
        *_hub(),
    ]
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        print_table("", ("what", "state", "found", "fix"), [(f.what, f.state, f.found, f.fix) for f in findings])
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(FAILED)


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", sys.version.split()[0])
    for package in (
        "thesis-assets",
        "dagster",
        "torch",
        "accelerate",
        "rerun-sdk",
        "huggingface_hub",
        "pillow",
        "pandas",
    ):
        try:
            yield Finding(package, "ok", importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "bad", "not installed", "pip install -c constraints.txt -e .")
    for extra, package in (("demo", "skimage"), ("gpu", "gsplat"), ("slurm", "submitit"), ("body", "smplx")):
        there = importlib.util.find_spec(package) is not None
        yield Finding(
            f"extra [{extra}]", "ok" if there else "missing", package, "" if there else f"pip install -e '.[{extra}]'"
        )


def _roots(settings: Settings) -> Iterator[Finding]:
    for name, root in settings.roots.items():
        if not root.exists():
            yield Finding(
                name, "missing", str(root), "made when it is first written; or set its variable (docs/operate.md)"
            )
            continue
        if not os.access(root, os.R_OK | os.X_OK):
            yield Finding(name, "bad", f"{root} is not readable", "give yourself read permission, or set another root")
            continue
        free = shutil.disk_usage(root).free
        writable = _is_writable(root)
        state = "ok" if writable and free > LOW_SPACE_BYTES else "missing"
        fix = "" if writable else "read only: fine for inputs, not for results"
        if free <= LOW_SPACE_BYTES:
            fix = "little space is left: an export needs about 3 MB a triplet of 940x1280"
        yield Finding(name, state, f"{root}, {human_bytes(free)} free", fix)


def _moves(platform: Platform) -> Iterator[Finding]:
    """Snapshots that were written at another place: nothing of them is made again but the file that holds paths."""
    from thesis_assets.splits.data_json import moved_from

    for spec in platform.readable_experiments():
        found = moved_from(platform.difix(Cell(spec.exp_name)))
        if found is not None:
            folder, is_renewed = found
            state = "data.json was written anew" if is_renewed else "data.json still has its paths"
            fix = "" if is_renewed else f"`thesis-assets run --exp {spec.exp_name}` writes it anew, and nothing else"
            yield Finding("data home", "ok", f"{spec.exp_name} was moved here from {folder}: {state}", fix)


def _is_writable(root: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=root):
            return True
    except OSError:
        return False


def _dagster_home(settings: Settings) -> Iterator[Finding]:
    home = settings.dagster_home
    kind = file_system_of(home)
    if kind in NETWORK_FILE_SYSTEMS and _has_its_own_database(home):
        yield Finding("DAGSTER_HOME", "ok", f"{home} on {kind}; the history is in a database of its own")
    elif kind in NETWORK_FILE_SYSTEMS:
        fix = "set DAGSTER_HOME to a local disk: SQLite on a network file system corrupts; or use PostgreSQL"
        yield Finding("DAGSTER_HOME", "bad", f"{home} on {kind}", fix)
    else:
        yield Finding("DAGSTER_HOME", "ok", f"{home} on {kind}")


def _has_its_own_database(home: Path) -> bool:
    """Whether the instance file names another storage than SQLite below the home."""
    import yaml

    path = home / "dagster.yaml"
    value = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    storage = value.get("storage") if isinstance(value, dict) else None
    return isinstance(storage, dict) and bool(storage) and "sqlite" not in storage


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system that holds a path (or would: its nearest existing parent); `unknown` without /proc."""
    if not mounts.is_file():
        return "unknown"
    real = path
    while not real.exists():
        real = real.parent
    real = real.resolve()
    best, kind = Path("/"), "unknown"
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, this_kind, *_ = line.split(" ")
        mounted = Path(point.replace("\\040", " "))
        if real.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, kind = mounted, this_kind
    return kind


def _hub() -> Iterator[Finding]:
    from huggingface_hub import get_token

    there = get_token() is not None
    yield Finding(
        "Hub token",
        "ok" if there else "missing",
        "present" if there else "none",
        "" if there else "`hf auth login`, for publishing",
    )
