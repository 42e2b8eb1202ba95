"""Run all benchmarks and write `benchmarks/results.md` and `benchmarks/results.json`."""

import json
import os
import platform
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import (
    definitions_import,
    difix_step,
    evaluation_tree,
    evaluation_views,
    gaussian_rasteriser,
    image_codecs,
    image_metrics,
    large_manifests,
    many_registered,
    provenance,
    recordings,
    sample_integrity,
    sensor_ticks,
    triplet_export,
    tuning_speed,
    whole_run,
)
from benchmarks.measure import Row

RESULTS = Path(__file__).with_name("results")
SUBJECTS = (
    *(definitions_import, image_codecs, triplet_export, sample_integrity, large_manifests),
    *(image_metrics, gaussian_rasteriser, tuning_speed, difix_step, sensor_ticks, many_registered, evaluation_tree),
    *(evaluation_views, recordings, provenance, whole_run),
)
PACKAGES = (
    *("thesis-assets", "dagster", "numpy", "pillow", "isal", "opencv-python-headless", "scikit-image", "torch"),
    *("orjson", "polars", "rerun-sdk", "torchmetrics", "webdataset", "datasets", "diffusers"),
)


def main(names: list[str]) -> int:
    """Run the subjects of these names (all where none is given). Returns 1 where a target is missed."""
    unknown = set(names) - {_name(subject) for subject in SUBJECTS}
    if unknown:
        print(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(map(_name, SUBJECTS))}")
        return 2
    chosen = [subject for subject in SUBJECTS if not names or _name(subject) in names]
    rows: list[Row] = []
    for subject in chosen:
        print(f"{_name(subject)} ...", flush=True)
        for row in subject.rows():
            print("  " + " | ".join(cells(row)), flush=True)
            rows.append(row)
    if chosen == list(SUBJECTS) or same_place():
        write(rows if chosen == list(SUBJECTS) else renewed(rows))
        print(f"written: {RESULTS.name}.md, {RESULTS.name}.json")
    for row in rows:
        if row.skipped is not None:
            print(f"skipped: {row.name}: {row.skipped}")
    missed = [row.name for row in rows if row.holds is False]
    print(f"{len(missed)} targets missed: {', '.join(missed)}" if missed else "every target holds")
    return 1 if missed else 0


def _name(subject: object) -> str:
    return str(subject.__name__).removeprefix("benchmarks.")  # type: ignore[attr-defined]


def same_place() -> bool:
    """Whether the written results are of these versions and this kind of machine: then single subjects may be measured again."""
    file = RESULTS.with_suffix(".json")
    if not file.is_file():
        return False
    written = json.loads(file.read_text(encoding="utf-8"))
    return (written["versions"], written["machine"]) == place()


def renewed(rows: list[Row]) -> list[Row]:
    """The written rows, those of these names replaced; new ones at the end."""
    measured = {row.name: row for row in rows}
    written = json.loads(RESULTS.with_suffix(".json").read_text(encoding="utf-8"))["rows"]
    names = {field.name for field in fields(Row)}
    kept = [Row(**{name: value for name, value in row.items() if name in names}) for row in written]
    return [measured.pop(row.name, row) for row in kept] + list(measured.values())


def place() -> tuple[dict[str, object], dict[str, object]]:
    """The versions, and the kind of machine."""
    versions: dict[str, object] = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    machine: dict[str, object] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": _gpu(),
    }
    return versions, machine


def write(rows: list[Row]) -> None:
    """Both result files, with the versions and the kind of machine."""
    versions, machine = place()
    plain = [{**row.__dict__, "holds": row.holds} for row in rows]
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"versions": versions, "machine": machine, "rows": plain}, indent=2) + "\n", encoding="utf-8"
    )
    header = ("room", "what", "value", "unit", "baseline", "ratio", "target", "holds")
    table = [header, ("---",) * len(header), *(cells(row) for row in rows)]
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench`. A ratio compares two things measured in turns in one run; seconds are this machine's.",
        "",
        *("| " + " | ".join(line) + " |" for line in table),
        "",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
        f"Machine: {machine['system']} {machine['machine']}, {machine['cores']} cores, "
        f"{machine['gpu'] or 'no GPU: nothing here has run on one yet'}.",
    ]
    RESULTS.with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cells(row: Row) -> tuple[str, ...]:
    """The texts of one line of the table."""
    held = {True: "yes", False: "NO", None: ""}[row.holds] if row.skipped is None else f"skipped: {row.skipped}"
    return (
        *(row.room, row.name, _number(row.value), row.unit, _number(row.baseline), _number(row.ratio)),
        *(row.target or "", held),
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
