"""`thesis-assets demo`: the demo scenes, their registration, both demo experiments, and what came of it."""

import time

import typer

from thesis_assets.cli.console import (
    DONE,
    JsonOption,
    dagster_instance,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.cli.run import run_experiment
from thesis_assets.cli.summary import asset_rows, gain_rows

DEMO_EXPERIMENTS = ("motorcycle", "demo")


def demo(as_json: JsonOption = False) -> None:
    """Make the demo scenes and run the whole graph on them; a second time finishes at once, nothing re-done."""
    from thesis_assets.defs.registration import plan_registration, register
    from thesis_assets.demo.motorcycle import make_motorcycle
    from thesis_assets.demo.studio import make_studio

    began = time.perf_counter()
    platform = load_platform()
    progress_line("demo scenes")
    make_studio(platform.roots, platform.echo)
    make_motorcycle(platform.roots)
    with dagster_instance(platform.settings) as instance:
        register(instance, plan_registration(platform, instance))
        reports = []
        for name in DEMO_EXPERIMENTS:
            report = run_experiment(platform, instance, name)
            reports.append(report)
            if report.exit_code != DONE:
                progress_line(f"{name} stopped; mend what is named above, then give the same command again")
                raise typer.Exit(report.exit_code)
        rows = [row for name in DEMO_EXPERIMENTS for row in asset_rows(platform, instance, name)]
    gains = gain_rows(platform, "demo")
    seconds = time.perf_counter() - began
    if as_json:
        print_json({"seconds": seconds, "assets": rows, "gains": gains, "runs": [each.to_json() for each in reports]})
        return
    shown = [(*row[:3], row[3], human_bytes(row[4]), *row[5:]) for row in rows]
    print_table("Assets", ("experiment", "asset", "cells", "files", "size", "seconds", "checks passed"), shown)
    print_table(
        "PSNR (dB) of views of pairs that were in no training sample, unrefined and refined",
        ("run", "on", "step", "views", "unrefined", "refined", "gain"),
        [(*row[:4], f"{row[4]:.2f}", f"{row[5]:.2f}", f"{row[6]:+.2f}") for row in gains],
    )
    made = sum(len(report.outcomes) for report in reports)
    print(f"{made} runs made in {seconds:.0f} s; " + ("everything was current" if made == 0 else "all is current now"))
    print(
        "Next:\n"
        "  make ui                     the asset graph, every run's pictures and checks, on http://127.0.0.1:3000\n"
        f"  .venv/bin/rerun {_a_recording(platform)}\n"
        "                              look at an evaluation\n"
        "  docs/your_own_scenes.md     the same with your own data"
    )


def _a_recording(platform: object) -> str:
    from thesis_assets.defs.partitions import Cell
    from thesis_assets.defs.platform import Platform

    assert isinstance(platform, Platform)
    cell = Cell("demo", run_name=next(iter(platform.experiments.read("demo").runs)))
    tree = next(iter(platform.evaluation_trees(cell).values()))
    return str(sorted(tree.rerun_dir.glob("evaluation_*.rrd"))[-1])
