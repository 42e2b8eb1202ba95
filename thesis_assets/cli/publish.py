"""`thesis-assets publish`: a run's recordings to a Hub dataset repo."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli.console import (
    WRONG_USE,
    JsonOption,
    dagster_instance,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform

if TYPE_CHECKING:
    from thesis_assets.publishing.plan import PublicationPlan
    from thesis_assets.schemas.publishing import PublicationRecord


def publish(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    run: Annotated[str, typer.Option("--run", help="The run.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; needs no token.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send what changed since the last time.")] = False,
    repo: Annotated[str | None, typer.Option("--repo", help="Dataset repo, in place of HF_RERUN_REPO_ID.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="A repo that is not there yet is made public, not private.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a run's recordings on the Hub.

    What changed goes up, by one commit, with a card. Nothing in the repo is deleted.
    """
    from thesis_assets.defs.assets.recordings import publication_plan
    from thesis_assets.publishing.publication import publication_unit
    from thesis_assets.publishing.publication import publish as send

    platform = load_platform()
    repo_id = repo or platform.settings.hf_rerun_repo_id
    if repo_id is None or dry_run == yes:
        progress_line(
            "error: no repo: give --repo or set HF_RERUN_REPO_ID"
            if repo_id is None
            else "error: give --dry-run to look, or --yes to send"
        )
        raise typer.Exit(WRONG_USE)
    cell = Cell(exp, run_name=run)
    platform.run_spec(cell)
    plan = publication_plan(platform, cell, repo_id)
    for warning in plan.warnings:
        progress_line(f"warning: {warning}")
    if dry_run:
        _print_plan(plan, as_json)
        return
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    record = send(
        plan,
        publication_unit(platform.evaluation_trees(cell), platform.difix(cell), run, repo_id),
        private=not (public or platform.settings.hf_rerun_public),
        on_progress=progress_line,
    )
    _remember(platform, cell, record)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        rows = [(file.path, human_bytes(file.bytes), file.path in record.sent) for file in record.files]
        print_table(f"{repo_id} at {record.revision[:12]}", ("path in the repo", "size", "sent now"), rows)
        print(record.url)


def _print_plan(plan: "PublicationPlan", as_json: bool) -> None:
    if as_json:
        files = [{"local": str(file.local), **file.published.model_dump(mode="json")} for file in plan.files]
        print_json(
            {
                "repo_id": plan.repo_id,
                "total_bytes": plan.total_bytes,
                "files": files,
                "licences": plan.licences,
                "warnings": plan.warnings,
                "commands": plan.commands,
            }
        )
        return
    rows = [(item.path_in_repo, human_bytes(item.bytes)) for item in plan.files]
    print_table(f"For {plan.repo_id}", ("path in the repo", "size"), rows)
    print("The same by hand:")
    for command in plan.commands:
        print(f"  {command}")


def _remember(platform: Platform, cell: Cell, record: "PublicationRecord") -> None:
    """Put the publication into the history, as the asset of the graph would."""
    import dagster as dg

    from thesis_assets.defs.assets.recordings import publication_metadata
    from thesis_assets.defs.graph import DATA_VERSION, data_version

    with dagster_instance(platform.settings) as instance:
        version = data_version(platform, "published_recordings", cell)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "published_recordings",
                description="Published from the command line.",
                partition=cell.key,
                metadata={**publication_metadata(record), DATA_VERSION: version},
            )
        )
