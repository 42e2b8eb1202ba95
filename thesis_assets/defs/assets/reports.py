"""Tables and pages over all cells: the leaderboard and the check dashboard."""

import time
from collections import Counter

import dagster as dg

from thesis_assets.defs.assets.declaration import graph_asset
from thesis_assets.graph.platform import PlatformParam
from thesis_assets.operations.metadata import counts_table, picture_file
from thesis_assets.operations.report_pages import (
    CHECK_REPORT,
    HISTORY_READ_AT,
    every_state,
    leaderboard_of,
    renew_pages,
    write_leaderboard,
    write_pages,
)
from thesis_assets.operations.shown_results import compare_pages_table, largest_gain, without_picture
from thesis_assets.schemas.evaluation import LeaderboardRow


@graph_asset(
    "leaderboard",
    description="Every run, scene, epoch and task: values, and paired differences to the unrefined render and to the baseline.",
    kinds={"csv"},
    columns=LeaderboardRow,
)
def leaderboard(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """Build the table from the trees that have a manifest, and renew the compare pages."""
    from thesis_assets.operations.compare_pages import ComparePages

    board = leaderboard_of(platform)
    reports = platform.settings.reports
    write_leaderboard(platform, board)
    pages = ComparePages(platform, platform.reporter(context)).renew()
    renew_pages(platform, context.instance)
    context.add_output_metadata(
        {
            "plot": picture_file(reports.leaderboard_plot),
            **largest_gain(board),
            **({"compare pages": dg.MetadataValue.md(compare_pages_table(pages))} if pages else {}),
            "table": dg.MetadataValue.md(without_picture(reports.leaderboard_markdown.read_text(encoding="utf-8"))),
            "dagster/row_count": len(board.rows),
        }
    )
    context.add_asset_metadata(  # of the asset, so that they stand below the digests
        {
            "csv": dg.MetadataValue.path(reports.leaderboard_csv),
            "differences": dg.MetadataValue.path(reports.leaderboard_differences),
            "latex": dg.MetadataValue.path(reports.leaderboard_latex),
        }
    )


@graph_asset(
    CHECK_REPORT,
    description="One page: every check of every partition, with when, what, the first offenders and what mends it. And the index page.",
    kinds={"html"},
)
def check_report(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """Write the partition x check page from the event log, and the index page that links everything."""
    read_at = time.time()
    states = every_state(platform, context.instance)
    rows = write_pages(platform, context.instance, states)
    reports = platform.settings.reports
    context.add_output_metadata(
        {
            "failed": sum(row.status == "failed" for row in rows),
            "cells": counts_table("state", Counter(state.state for state in states)),
            "warnings": sum(row.status == "warning" for row in rows),
            "dagster/row_count": len(rows),
            "page": dg.MetadataValue.path(reports.checks),
            "index of everything": dg.MetadataValue.path(reports.index),
            HISTORY_READ_AT: dg.MetadataValue.timestamp(read_at),
        }
    )
