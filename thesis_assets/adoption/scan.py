"""Finding what is below a folder: trees of both documents, the older ones, and the older configuration. Reads, never writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from thesis_assets import storage
from thesis_assets.adoption.findings import Findings, FoundRun, FoundSceneFiles, FoundSnapshot
from thesis_assets.adoption.older_configuration import read_paths
from thesis_assets.adoption.scores import document_scores, older_scores
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import DifixTree, check_key, dataset_of, parse_checkpoint_step

PASSED_OVER = {".git", ".venv", "wandb", "node_modules", "__pycache__", "site-packages"}
MAX_SCENE_FILE_BYTES = 1024 * 1024


def scan(root: Path) -> Findings:
    """Look through a folder. Links to folders are not followed; what is recognised is not searched further.

    Raises:
        InvalidFile: there is no such folder.
    """
    if not root.is_dir():
        raise InvalidFile("there is no such folder to adopt", file=root)
    findings = Findings(root.resolve())
    for current, folders, names in os.walk(findings.root):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER and not name.startswith("."))
        folder = Path(current)
        if _is_snapshot(folder, folders):
            findings.snapshots += _snapshot(folder, findings)
            folders.clear()
        elif _is_document_tree(folder, folders, names):
            findings.scores += document_scores(folder, findings)
            folders.clear()
        elif folder.name == "evaluation":
            findings.scores += older_scores(folder, folders, findings)
            folders.clear()
        elif {"images", "all_cameras"} <= set(folders):
            folders.clear()  # A scene's own folder: the catalog reads it.
            if (folder / "evaluation").is_dir():
                folders.append("evaluation")
        else:
            _note_configuration(folder, names, findings)
    _name_subsets(findings)
    return findings


def _is_snapshot(folder: Path, folders: list[str]) -> bool:
    return (
        "samples" in folders
        and bool({"manifests", "difix", "tuning_runs", "meta"} & set(folders))
        and folder.name != ""
    )


def _is_document_tree(folder: Path, folders: list[str], names: list[str]) -> bool:
    if "evaluation" not in folders:
        return False
    if "manifest.json" in names:
        return True
    return any(path.name.startswith("epoch_") for path in (folder / "evaluation").iterdir())


def _snapshot(folder: Path, findings: Findings) -> Iterator[FoundSnapshot]:
    try:
        name = check_key(folder.name, "exp_name")
    except InvalidKey as error:
        findings.complain(folder, f"the snapshot's name is no experiment's: {error.found}", "rename the folder first")
        return
    yield FoundSnapshot(folder, name, tuple(_runs(DifixTree(folder.parent, name), findings)))


def _runs(tree: DifixTree, findings: Findings) -> Iterator[FoundRun]:
    if not tree.tuning_runs_dir.is_dir():
        return
    for folder in sorted(path for path in tree.tuning_runs_dir.iterdir() if path.is_dir()):
        try:
            run = tree.tuning_run(folder.name)
        except InvalidKey as error:
            findings.complain(folder, f"the run's name is no run's: {error.found}", "left out; rename the folder first")
            continue
        names = [path.name for path in run.checkpoints_dir.iterdir()] if run.checkpoints_dir.is_dir() else []
        steps = sorted(step for name in names if (step := parse_checkpoint_step(name)) is not None)
        if not steps:
            findings.complain(folder, "the run has no checkpoints/model_<step>.pkl", "left out")
            continue
        configs = (run.base / "meta" / "run_config.yaml", run.train_config)
        yield FoundRun(folder, folder.name, tuple(steps), next((path for path in configs if path.is_file()), None))


def _note_configuration(folder: Path, names: list[str], findings: Findings) -> None:
    if "paths.yaml" in names:
        found = read_paths(folder / "paths.yaml", findings)
        if found is not None:
            findings.configurations.append(found)
    scenes = [Path(name).stem for name in names if name.endswith(".json") and _is_scene_file(folder / name)]
    if scenes:
        findings.scene_files.append(FoundSceneFiles(folder, tuple(sorted(scenes))))


def _is_scene_file(path: Path) -> bool:
    """A file of the scene registry: it names its sequence and the source camera."""
    try:
        value = storage.read_json_value(path, max_bytes=MAX_SCENE_FILE_BYTES)
        dataset_of(path.stem)
    except (InvalidFile, InvalidKey, OSError):
        return False
    return isinstance(value, dict) and {"seq_name", "cam_id"} <= value.keys()


def _name_subsets(findings: Findings) -> None:
    """The folder with most scenes first: that is the registry, the others are choices from it."""
    findings.scene_files.sort(key=lambda each: (-len(each.scenes), str(each.folder)))
    whole = set(findings.scene_files[0].scenes) if findings.scene_files else set()
    for each in findings.scene_files[1:]:
        beyond = sorted(set(each.scenes) - whole)
        if beyond:
            findings.complain(
                each.folder,
                f"{len(beyond)} scenes are not in {findings.scene_files[0].folder}: {', '.join(beyond[:3])}",
                "bring their files into one folder and name it in THESIS_SCENE_REGISTRY_DIR",
            )
