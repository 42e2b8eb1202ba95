"""The one command behind the three export scripts: which tree, which epochs, which tasks, how many frames.

Does not belong here: anything about a recording itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.qualitative.contract import BYTES_PER_MB
from thesis_assets.evaluation.qualitative.evaluation import evaluated_epochs, export_evaluation, task_recordings
from thesis_assets.evaluation.qualitative.input_data import export_input_data
from thesis_assets.evaluation.qualitative.made_from import recording_facts
from thesis_assets.evaluation.qualitative.tracks import ExportOptions
from thesis_assets.layout import TASKS, EvaluationTree
from thesis_assets.schemas.recordings import RecordingFacts

PARTS = ("input_data", "evaluation")
DONE, FAILED = 0, 1


def main(parts: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Export the `parts` of one tree; returns the exit code (0 done, 1 failed; argparse itself exits with 2)."""
    parsed = _parser(parts).parse_args(arguments)
    try:
        export_recordings(
            EvaluationTree(parsed.exp_dir.resolve().parent, parsed.exp_dir.resolve().name),
            parts,
            epochs=parsed.epochs,
            tasks=parsed.tasks,
            options=ExportOptions(parsed.max_frames_per_camera, parsed.lossless),
            split_bytes=parsed.split_mb * BYTES_PER_MB,
            force=parsed.force,
            on_progress=lambda line: _say(sys.stderr, line),
            on_done=lambda path, facts: _say(sys.stdout, _described(path, facts)),
        )
    except ThesisAssetsError as error:
        _say(sys.stderr, str(error))
        return FAILED
    return DONE


def export_recordings(
    tree: EvaluationTree,
    parts: Sequence[str] = PARTS,
    *,
    epochs: str = "all",
    tasks: Sequence[str] = TASKS,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
    split_bytes: int = 0,
    force: bool = False,
    on_progress: Callable[[str], None] | None = None,
    on_done: Callable[[Path, RecordingFacts], None] | None = None,
) -> dict[Path, RecordingFacts]:
    """Export input data and epochs of one tree; recordings that are current are left alone.

    Args:
        parts: `input_data`, `evaluation`, or both.
        epochs: `all`, `latest`, or numbers with commas between (`0,30`).
        options: None: those that each recording was made by, or the defaults.
        split_bytes: above this size an epoch's tasks also get files of their own; 0 = never.

    Raises:
        InvalidFile: a part or an epoch that was asked for is not in the tree.
    """
    written: dict[Path, RecordingFacts] = {}

    def done(path: Path, facts: RecordingFacts) -> None:
        written[path] = facts
        if on_done is not None:
            on_done(path, facts)

    if "input_data" in parts:
        facts = export_input_data(
            tree, run_name=run_name, scene_name=scene_name, options=options, force=force, on_progress=on_progress
        )
        done(tree.input_data_recording, facts)
    if "evaluation" in parts:
        for epoch in chosen_epochs(tree, epochs):
            facts = export_evaluation(
                tree,
                epoch,
                tasks=tasks,
                run_name=run_name,
                scene_name=scene_name,
                options=options,
                split_bytes=split_bytes,
                force=force,
                on_progress=on_progress,
            )
            done(tree.evaluation_recording(epoch), facts)
            for path in task_recordings(tree, epoch).values():
                done(path, recording_facts(path))
    return written


def chosen_epochs(tree: EvaluationTree, epochs: str) -> list[int]:
    """`all`, `latest` or `0,30` as epoch numbers that the tree has.

    Raises:
        InvalidFile: the tree has no epoch, or not the one that was named.
    """
    present = evaluated_epochs(tree)
    if epochs == "all":
        wanted = present
    elif epochs == "latest":
        wanted = present[-1:]
    else:
        wanted = [int(word) for word in epochs.split(",")]
    missing = sorted(set(wanted) - set(present))
    if missing or not wanted:
        raise InvalidFile(
            "the tree was not evaluated at this epoch" if missing else "the tree has no evaluated epoch",
            file=tree.evaluation_dir,
            key="--epochs",
            found=", ".join(map(str, missing)) or "nothing",
            wanted=", ".join(map(str, present)) or "at least one epoch_XXXX folder",
            remedy="materialize `evaluation_manifest` of this cell first",
        )
    return wanted


def _parser(parts: Sequence[str]) -> argparse.ArgumentParser:
    what = " and ".join(part.replace("_", " ") for part in parts)
    parser = argparse.ArgumentParser(description=f"Export {what} of one evaluation tree as Rerun recordings.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="<output_dir>/<exp_name>: the tree's own folder")
    parser.add_argument("--epochs", type=_epochs, default="all", help="all, latest, or numbers such as 30 or 0,30")
    parser.add_argument("--tasks", type=_tasks, default=TASKS, help=f"some of {','.join(TASKS)} (default: all)")
    parser.add_argument(
        "--max-frames-per-camera", type=_count, default=0, help="the first so many frames; 0 = all (default)"
    )
    parser.add_argument(
        "--split-mb", type=_count, default=1500, help="above this size a file a task too; 0 = never (default: 1500)"
    )
    parser.add_argument("--lossless", action="store_true", help="keep PNG pictures as they are, not as JPEG")
    parser.add_argument("--force", action="store_true", help="write recordings that are current again")
    return parser


def is_epochs(text: str) -> bool:
    """Whether a text is `all`, `latest`, or numbers with commas between."""
    return text in ("all", "latest") or all(word.isascii() and word.isdecimal() for word in text.split(","))


def _epochs(text: str) -> str:
    if not is_epochs(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not all, latest, or numbers with commas between")
    return text


def _tasks(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(TASKS)}")
    return names


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _described(path: Path, facts: RecordingFacts) -> str:
    absent = "".join(f"\n  {line}" for line in facts.absent)
    return f"{path} ({facts.bytes / 1e6:.1f} MB){absent}"


def _say(stream: object, line: str) -> None:
    print(line, file=stream, flush=True)  # type: ignore[call-overload]
