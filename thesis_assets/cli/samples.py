"""The samples of an experiment: to be looked at, and left out of training and testing."""

import getpass
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import human_bytes, load_platform, print_json, print_table, progress_line, wrong_use
from thesis_assets.errors import InvalidFile, ThesisAssetsError, first_names, near_names
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.launch.telling import counted

if TYPE_CHECKING:
    from thesis_assets.reports.samples_page import ShownSample

samples_app = typer.Typer(no_args_is_help=True)


class Half(StrEnum):
    """Which samples are looked at."""

    ALL = "all"
    TRAIN = "train"
    TEST = "test"


@samples_app.command("show")
def show(
    exp: options.Exp,
    scenes: Annotated[list[str] | None, typer.Option("--scene", help="Only this scene's (repeatable).")] = None,
    half: Annotated[Half, typer.Option("--half", help="Only those of one half.")] = Half.ALL,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, evenly over all.")] = 2000,
    output: Annotated[Path | None, typer.Option("--output", help="The page; else it lies among the reports.")] = None,
    open_page: options.Open = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a page to look at samples on, and to flag those to leave out.

    One HTML file that needs no network: render, target and reference of each. It saves the table that `samples exclude --from` and
    `run --without` take.
    """
    from thesis_assets.layout import dataset_of
    from thesis_assets.publishing.licences import licences_that_forbid
    from thesis_assets.reports.samples_page import chosen, render_samples_page
    from thesis_assets.storage import write_text

    platform = load_platform()
    spec, tree = platform.experiments.read(exp), platform.difix(Cell(exp))
    every = [
        each
        for each in _samples(platform, exp)
        if (not scenes or each.row.scene_name in scenes) and half in (Half.ALL, each.half)
    ]
    if not every:
        raise ThesisAssetsError(
            "there is no such sample to look at",
            file=tree.all_samples,
            found=", ".join(scenes or [half.value]),
            remedy=f"correct --scene or --half; or make the data: `thesis-assets run --exp {exp} --until difix_data`",
        )
    shown = chosen(every, limit)
    forbidding = licences_that_forbid({dataset_of(each.row.scene_name) for each in shown}, spec.datasets)
    progress = counted(exp, "samples have their pictures", len(shown), say=progress_line)
    page = output or platform.settings.reports.samples(exp)
    write_text(page, render_samples_page(exp, tree.base, shown, len(every), list(forbidding.values()), progress))
    size = page.stat().st_size
    if as_json:
        said = {"exp_name": exp, "page": str(page), "samples": len(shown), "of": len(every), "bytes": size}
        print_json({**said, "not_for_sharing": list(forbidding)})
    else:
        for dataset in forbidding:
            print(f"not to be passed on: the page holds images of {dataset}")
        print(f"{len(shown)} of {len(every)} samples ({human_bytes(size)}): {page}")
    if open_page:
        typer.launch(page.absolute().as_uri())


def _samples(platform: Platform, exp: str) -> "Iterator[ShownSample]":
    from thesis_assets.reports.samples_page import ShownSample
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.splits.exclusions import read_exclusions

    tree = platform.difix(Cell(exp))
    if not tree.split_train.is_file():
        raise InvalidFile(
            "the samples are not collected yet",
            file=tree.split_train,
            remedy=f"`thesis-assets run --exp {exp} --until difix_data`",
        )
    train, test = ({row.sample_id for row in read_rows(path)} for path in (tree.split_train, tree.split_test))
    reasons = {each.sample_id: each.reason for each in read_exclusions(tree.exclusions)}
    for row in read_rows(tree.all_samples):
        half = "train" if row.sample_id in train else "test" if row.sample_id in test else "left out"
        yield ShownSample(row, half, reasons.get(row.sample_id))


@samples_app.command("exclude")
def exclude(
    exp: options.Exp,
    samples: Annotated[list[str] | None, typer.Option("--sample", help="A sample's id; may be repeated.")] = None,
    table: Annotated[
        Path | None, typer.Option("--from", help="A CSV with a column sample_id; reason, who and when are kept.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; of those that --sample names.")] = "",
    back: Annotated[bool, typer.Option("--back", help="Take them in again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Leave samples out of both halves, or show which are.

    Nothing is rendered again, and they stay on disk: the manifests and data.json are written anew by the next run.
    """
    from thesis_assets.schemas.samples import Exclusion
    from thesis_assets.splits.exclusions import read_exclusions, with_added, write_exclusions

    platform = load_platform()
    platform.experiments.read(exp)
    path = platform.experiments.exclusions(exp)
    present = platform.exclusions(Cell(exp))
    if not samples and table is None:
        if as_json:
            print_json({"exp_name": exp, "file": str(path), "excluded": [each.model_dump() for each in present]})
        else:
            print_table(
                f"Left out of {exp}",
                tuple(Exclusion.model_fields),
                [tuple(each.model_dump().values()) for each in present],
            )
        return
    if table is not None and not table.is_file():
        raise InvalidFile("the file is missing", file=table)
    who, when = getpass.getuser(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    named = [Exclusion(sample_id=sample_id, reason=reason, who=who, when=when) for sample_id in samples or ()]
    named += read_exclusions(table) if table is not None else []
    ids = {each.sample_id for each in named}
    if back:
        absent = sorted(ids - {each.sample_id for each in present})
        if absent:
            wrong_use(f"not left out of {exp}: {first_names(absent)}")
        wanted = [each for each in present if each.sample_id not in ids]
    else:
        refuse_unknown(platform, exp, ids)
        wanted = with_added(present, named)
    n_changed = abs(len(wanted) - len(present))
    if n_changed and not dry_run:
        _refuse_frozen(platform, exp)
        write_exclusions(path, wanted)
    if as_json:
        said = {"exp_name": exp, "file": str(path), "dry_run": dry_run, "changed": n_changed, "n_excluded": len(wanted)}
        print_json(said)
        return
    would, what = "would be " if dry_run else "", "taken in again" if back else "left out"
    print(f"{n_changed} samples are {would}{what}; left out in all: {len(wanted)}: {path}")
    if n_changed and not dry_run:
        print(f"next: `thesis-assets run --exp {exp} --until difix_data` writes the halves and data.json without them")


def refuse_unknown(platform: Platform, exp: str, ids: set[str]) -> None:
    """Refuse ids that no sample of the experiment has, where its samples were collected."""
    from thesis_assets.samples.sample_rows import read_rows

    manifest = platform.difix(Cell(exp)).all_samples
    if not manifest.is_file():
        return
    known = {row.sample_id for row in read_rows(manifest)}
    unknown = sorted(ids - known)
    if unknown:
        raise ThesisAssetsError(
            "the experiment has no such sample",
            file=manifest,
            found=first_names(unknown),
            wanted=near_names(sorted(known), unknown[:1]),
            remedy="correct the id",
        )


def _refuse_frozen(platform: Platform, exp: str) -> None:
    if platform.is_frozen(exp):
        fork = f"{exp}-fork1"
        raise ThesisAssetsError(
            "the snapshot is frozen: what runs were trained on stays as it is",
            file=platform.difix(Cell(exp)).frozen,
            remedy=f"leave them out of a fork, which renders nothing again: `thesis-assets fork --exp {exp} --as {fork}`, then "
            f"`thesis-assets samples exclude --exp {fork} ...`; or `thesis-assets run --exp {exp} --without exclude.csv`, which also says what it does",
        )
