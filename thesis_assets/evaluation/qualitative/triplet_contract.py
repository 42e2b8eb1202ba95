"""Check of a tuning run's recording: every chosen sample, every finished checkpoint, one row each, on the timeline `step`.

Does not belong here: recordings of an evaluation tree (`contract`).
"""

from __future__ import annotations

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.expected_layout import layout_offenders
from thesis_assets.evaluation.qualitative.made_from import recording_facts
from thesis_assets.evaluation.qualitative.recording import STEP
from thesis_assets.evaluation.qualitative.tracks import ExportOptions, left_out_paths
from thesis_assets.evaluation.qualitative.triplets import (
    N_SAMPLES,
    SEED,
    chosen_samples,
    finished_steps,
    sample_entity,
    triplet_recording_unit,
)
from thesis_assets.evaluation.qualitative.verification import EntityContent, read_recording, verify_recording
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.checks import CheckOutcome

_BLOB, _SCALAR = "EncodedImage:blob", "Scalars:scalars"


def check_triplet_recording(
    tree: DifixTree,
    run_name: str,
    *,
    n_samples: int = N_SAMPLES,
    seed: int = SEED,
    options: ExportOptions | None = None,
) -> CheckOutcome:
    """Whether `triplets.rrd` loads, is current, and holds every chosen sample at every finished checkpoint, nothing else."""
    path = tree.tuning_run(run_name).triplet_recording
    verified = verify_recording(path)
    if not verified.passed:
        return verified
    try:
        offenders, counts = _differences(tree, run_name, n_samples, seed)
        verdict = triplet_recording_unit(tree, run_name, n_samples=n_samples, seed=seed, options=options).look()
        if not verdict.is_made:
            offenders.append(f"{path.name}: {verdict.in_words}")
    except InvalidFile as error:
        offenders, counts = [f"{path.name}: {error.problem}"], {}
    return CheckOutcome.of(
        offenders,
        message=f"{path.name} held against the run: {len(offenders)} differences",
        counts={**counts, "bytes": path.stat().st_size},
    )


def _differences(tree: DifixTree, run_name: str, n_samples: int, seed: int) -> tuple[list[str], dict[str, int | float]]:
    run = tree.tuning_run(run_name)
    content = read_recording(run.triplet_recording)
    left_out = left_out_paths(recording_facts(run.triplet_recording).absent)
    steps = {step for step in finished_steps(tree, run_name) if tree.relative(run.checkpoint(step)) not in left_out}
    offenders: list[str] = []
    known: set[str] = set()
    samples = [
        sample for sample in chosen_samples(tree, n_samples, seed) if f"samples/{sample.sample_id}" not in left_out
    ]
    for sample in samples:
        entity = sample_entity(sample.sample_id)
        for part in ("render", "target", "reference"):
            known.add(f"{entity}/{part}")
            if _BLOB not in content.entities.get(f"{entity}/{part}", EntityContent()).static:
                offenders.append(f"{entity}/{part}: no static picture")
        for part, component in (
            ("refined", _BLOB),
            ("psnr/render", _SCALAR),
            ("psnr/refined", _SCALAR),
            ("psnr/gain", _SCALAR),
        ):
            known.add(f"{entity}/{part}")
            found = content.entities.get(f"{entity}/{part}", EntityContent()).rows.get(component, set())
            offenders += [f"{entity}/{part}: no row at step {step}" for step in sorted(steps - {at for _, at in found})]
            offenders += [
                f"{entity}/{part}: a row at {timeline} {at} has no checkpoint"
                for timeline, at in sorted(found)
                if timeline != STEP or at not in steps
            ]
    offenders += layout_offenders(content)
    offenders += [f"{entity}: no chosen sample" for entity in sorted(set(content.entities) - known)]
    return offenders, {"samples": len(samples), "steps": len(steps)}
