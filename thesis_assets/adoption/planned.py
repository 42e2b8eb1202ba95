"""From what was found to what will be declared: an experiment a snapshot, with the trees that were evaluated of it; and one of trees alone.

Pure but for reading the snapshots' rows. Does not belong here: writing anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.adoption.findings import Findings, FoundRun, FoundScores, FoundSnapshot
from thesis_assets.adoption.older_configuration import generation_of, run_of
from thesis_assets.adoption.older_rows import FoundRows, read_found_rows
from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.experiments.runs import RunSpec
from thesis_assets.layout import AdoptedTrees, DifixTree, EvaluationTree
from thesis_assets.scenes.matching import group_id
from thesis_assets.schemas.samples import SplitSummary

NO_MODEL = "not known: an evaluated tree, whose checkpoint is not here"


@dataclass(frozen=True)
class PlannedExperiment:
    """One experiment file, and what stands behind it.

    Attributes:
        value: the file's keys, without `exp_name`.
        runs: those of the snapshot's runs that are adopted, with their declaration.
        scores: by (run, scene).
        mirrored: the scores' trees are made by links under `adopted/`; else they are read where they lie.
    """

    wanted_name: str
    origin: Path
    value: dict[str, Any]
    snapshot: FoundSnapshot | None = None
    rows: FoundRows = field(default_factory=FoundRows)
    runs: tuple[tuple[FoundRun, RunSpec], ...] = ()
    scores: Mapping[tuple[str, str], FoundScores] = field(default_factory=dict)
    mirrored: bool = False


def plan(findings: Findings, adopted: AdoptedTrees, scenes_on_disk: Collection[str]) -> list[PlannedExperiment]:
    """Every experiment that the findings amount to."""
    by_exp: dict[str, list[FoundScores]] = {}
    for found in findings.scores:
        if found.scene_name in scenes_on_disk:
            by_exp.setdefault(found.exp_name, []).append(found)
        else:
            findings.complain(
                found.folder,
                f"the scene {found.scene_name} is not on disk",
                "not taken over; set THESIS_CANONICAL_GT_ROOT_DIR to where the scenes are, then adopt again",
            )
    planned = []
    for snapshot in findings.snapshots:
        experiment = _of_snapshot(snapshot, findings)
        if experiment is not None:
            planned.append(_with_scores(experiment, by_exp.pop(snapshot.exp_name, []), findings, adopted))
    for exp_name, scores in sorted(by_exp.items()):
        names = sorted({found.scene_name for found in scores})
        empty = PlannedExperiment(
            exp_name,
            findings.root,
            {
                "description": "Evaluated trees without the data they were tuned on.",
                "generation": {"scenes": names, "renders": {"source": "precomputed"}},
                "split": {"train_only": True},
                "evaluation_only": True,
            },
        )
        experiment = _with_scores(empty, scores, findings, adopted)
        if experiment.scores:
            planned.append(experiment)
    return planned


# --- snapshots -------------------------------------------------------------------------------------------------------


def _of_snapshot(snapshot: FoundSnapshot, findings: Findings) -> PlannedExperiment | None:
    tree = DifixTree(snapshot.folder.parent, snapshot.folder.name)
    rows = read_found_rows(tree, findings)
    if not rows.rows:
        findings.complain(snapshot.folder, "the snapshot has no usable sample", "left out")
        return None
    generation = generation_of(tree.generation_config, rows.scenes, rows.prompt, findings)
    runs = tuple((run, run_of(run, findings)[0]) for run in snapshot.runs)
    value: dict[str, Any] = {
        "description": f"A snapshot of {len(rows.rows)} samples that other scripts made.",
        "generation": generation.model_dump(mode="json", exclude_defaults=True),
        "split": _split(tree, rows, findings),
    }
    if runs:
        value["runs"] = {
            run.run_name: spec.model_dump(mode="json", exclude_defaults=True) | {"backend": spec.backend}
            for run, spec in runs
        }
    return PlannedExperiment(snapshot.exp_name, snapshot.folder, value, snapshot, rows, runs)


def _split(tree: DifixTree, rows: FoundRows, findings: Findings) -> dict[str, Any]:
    """Named test groups as they were held out, with the reserved scenes and the group rules that are needed."""
    both = sorted(set(rows.groups("train")) & set(rows.groups("test")))
    if both:
        findings.complain(
            tree.base,
            f"people stand on both sides of the split: {', '.join(both[:5])}",
            "kept as it is, so that group_non_leakage fails; no run should be reported on it",
        )
    split: dict[str, Any] = {}
    test: dict[str, list[str]] = {}
    for group in rows.groups("test"):
        dataset, _, name = group.partition("/")
        test.setdefault(dataset, []).append(name)
    if test:
        split["test_groups"] = test
    else:
        split["train_only"] = True
    try:
        reserved = storage.read_json(tree.split_summary, SplitSummary).reserved_scenes
    except InvalidFile:  # an older summary has other keys
        reserved = []
    if reserved:
        split["reserved_scenes"] = reserved
    rules = _group_rules(rows, findings, tree)
    if rules:
        split["group_rules"] = rules
    return split


def _group_rules(rows: FoundRows, findings: Findings, tree: DifixTree) -> dict[str, str]:
    """A rule for each dataset that has none: `scene_name` where every scene is its own group."""
    rules: dict[str, str] = {}
    for row in rows.rows:
        if row.dataset in rules:
            continue
        try:
            group = group_id(row.scene_name, {})
        except InvalidExperiment:
            rules[row.dataset] = "scene_name"
            group = row.scene_name
        if group != row.group_id:
            findings.complain(
                tree.base,
                f"{row.scene_name} is of group {row.group_id}, and by the rule of its dataset of {group}",
                "the rows keep theirs; the checks go by the rule",
            )
    return rules


# --- evaluated trees -------------------------------------------------------------------------------------------------


def _with_scores(
    experiment: PlannedExperiment, scores: Sequence[FoundScores], findings: Findings, adopted: AdoptedTrees
) -> PlannedExperiment:
    """The experiment with its `evaluation` part: the epochs and scenes that all of its runs have."""
    if not scores:
        return experiment
    kept = dict(_unique(scores, findings))
    runs = sorted({run for run, _ in kept})
    scenes = sorted(set.intersection(*({scene for of, scene in kept if of == run} for run in runs)))
    epochs = sorted(set.intersection(*(set(found.epochs) for found in kept.values())))
    for (run, scene), found in kept.items():
        if scene not in scenes:
            findings.complain(
                found.folder, f"{scene} is evaluated in run {run}, and not in every run of {found.exp_name}", "left out"
            )
        for epoch in sorted(set(found.epochs) - set(epochs)):
            findings.complain(found.folder, f"epoch {epoch} is not in every scene of {found.exp_name}", "left out")
    if not scenes or not epochs:
        findings.complain(
            scores[0].folder, f"the trees of {scores[0].exp_name} share no scene and epoch", "not taken over"
        )
        return experiment
    kept = {key: found for key, found in kept.items() if key[1] in scenes}
    tasks = [task for task in ("nvs", "pose_smplx", "pose_smpl") if any(task in found.tasks for found in kept.values())]
    template = None if any(found.older for found in kept.values()) else common_template(kept)
    value = dict(experiment.value)
    declared = dict(value.get("runs", {}))
    value["runs"] = declared | {
        run: {"backend": "pretrained", "model": NO_MODEL} for run in runs if run not in declared
    }
    value["evaluation"] = {
        "scenes": scenes,
        "tasks": tasks,
        "epochs": epochs,
        "predictions": {"source": "existing", "tree": template or adopted.template},
    }
    if "evaluation_only" in value:
        value["evaluation_only"] = value.pop("evaluation_only")  # last, where one looks for it
    return PlannedExperiment(
        experiment.wanted_name,
        experiment.origin,
        value,
        experiment.snapshot,
        experiment.rows,
        experiment.runs,
        kept,
        mirrored=template is None,
    )


def _unique(scores: Sequence[FoundScores], findings: Findings) -> Iterator[tuple[tuple[str, str], FoundScores]]:
    seen: dict[tuple[str, str], FoundScores] = {}
    for found in scores:
        key = (found.run_name, found.scene_name)
        if key in seen:
            findings.complain(
                found.folder,
                f"a second tree of {found.exp_name}, {' and '.join(key)}; {seen[key].folder} is taken",
                "left out",
            )
            continue
        seen[key] = found
        yield key, found


def common_template(scores: Mapping[tuple[str, str], FoundScores]) -> str | None:
    """One path with {run_name} and {scene_name} that names every tree; None where there is none."""
    candidates = []
    for (run, scene), found in scores.items():
        parts = [
            "{scene_name}" if part == scene else "{run_name}" if part == run else part for part in found.folder.parts
        ]
        parts[-1] = parts[-1].replace(f"__{run}", "__{run_name}")
        candidates.append(os.path.join(*parts))  # noqa: PTH118 - a template, no path
    template = candidates[0]
    plain = template.replace("{scene_name}", "").replace("{run_name}", "")
    if "{" in plain or "}" in plain or any(candidate != template for candidate in candidates):
        return None
    filled = {key: template.replace("{run_name}", key[0]).replace("{scene_name}", key[1]) for key in scores}
    return template if all(filled[key] == str(found.folder) for key, found in scores.items()) else None


def mirror_document(found: FoundScores, target: EvaluationTree) -> int:
    """Every file of a document's tree by links under another name. Returns their number."""
    count = 0
    with storage.atomic_directory(target.base) as staging:
        for current, folders, names in os.walk(found.folder):
            folders.sort()
            for name in sorted(names):
                source = Path(current, name)
                if not source.is_symlink():
                    storage.link_or_copy(source, staging / source.relative_to(found.folder))
                    count += 1
    return count
