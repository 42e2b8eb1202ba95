"""The older configuration: `paths.yaml` with `${}` references, `generation_config.yaml` and `run_config.yaml` of any keys.

What is understood becomes settings, a generation section and runs; what is not is named. Does not belong here: the samples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thesis_assets.adoption.findings import Findings, FoundConfiguration, FoundRun
from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.generation import GenerationSpec
from thesis_assets.experiments.reading import read_yaml
from thesis_assets.experiments.runs import RunSpec
from thesis_assets.samples.generation_config import GenerationConfig

_REFERENCE = re.compile(r"\$\{([^${}]+)\}")
MAX_REFERENCES = 50

SETTINGS = (
    "THESIS_DIFIX_DATA_ROOT_DIR",
    "THESIS_RESULTS_ROOT_DIR",
    "THESIS_PREPROCESSING_ROOT_DIR",
    "THESIS_CANONICAL_GT_ROOT_DIR",
    "THESIS_HF_CACHE_DIR",
    "THESIS_WANDB_ROOT_DIR",
    "THESIS_HYDRA_ROOT_DIR",
    "THESIS_CONDA_ENV",
    "THESIS_SCENE_REGISTRY_DIR",
    "THESIS_RENDERS_ROOT_DIR",
    "HF_RERUN_REPO_ID",
)
GENERATION_KEYS = {
    "stride": "frames.stride",
    "frame_stride": "frames.stride",
    "max_samples_per_camera": "frames.max_samples_per_camera",
    "max_samples_per_cam": "frames.max_samples_per_camera",
    "apply_skip_frames": "frames.apply_skip_frames",
    "min_mask_coverage": "filtering.min_mask_coverage",
    "apply_mask": "filtering.apply_mask",
    "prompt": "export.prompt",
    "reference_strategy": "reference.strategy",
    "source_camera": "source_camera",
    "source_cam_id": "source_camera",
    "target_cam_ids": "target_cameras.ids",
}
"""Older key -> ours, whatever section it stands in."""
DIFIX_SCRIPT = "submodules/difix3d/src/train_difix.py"
BASE_MODEL = "stabilityai/sd-turbo"


# --- paths.yaml ------------------------------------------------------------------------------------------------------


def read_paths(file: Path, findings: Findings) -> FoundConfiguration | None:
    """The roots of a `paths.yaml` by the names of our settings; None where it has none."""
    try:
        value, _ = read_yaml(file)
    except InvalidExperiment as error:
        findings.complain(file, f"it cannot be read: {error.problem}", "no settings are taken from it")
        return None
    flat = dict(_flatten(value))
    found: dict[str, str] = {}
    for key in flat:
        name = _setting_of(key)
        if name is None:
            continue
        try:
            found.setdefault(name, resolve(key, flat))
        except ValueError as error:
            findings.complain(file, f"`{key}` cannot be resolved: {error}", f"write {name} into .env by hand")
    return FoundConfiguration(file, found) if found else None


def _setting_of(key: str) -> str | None:
    """`paths.results_root_dir`, `results_root` or `THESIS_RESULTS_ROOT_DIR` -> `THESIS_RESULTS_ROOT_DIR`."""
    last = _bare(key.rpartition(".")[2])
    return next((name for name in SETTINGS if _bare(name) == last), None)


def _bare(name: str) -> str:
    words = name.lower().removeprefix("thesis_").split("_")
    return "_".join(word for word in words if word not in ("root", "dir", "path"))


def _flatten(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}{key}.")
    else:
        yield prefix[:-1], value


def resolve(key: str, values: Mapping[str, object]) -> str:
    """The text of a key with every `${}` filled: a key of the file (`${root}`, `${a.b}`), or `${oc.env:NAME}` with or without a default.

    Raises:
        ValueError: a reference leads nowhere, or in a circle.
    """
    text = str(values[key])
    for _ in range(MAX_REFERENCES):
        match = _REFERENCE.search(text)
        if match is None:
            return text
        text = text[: match.start()] + _referred(match[1].strip(), key, values) + text[match.end() :]
    raise ValueError(f"its references lead in a circle: {values[key]}")


def _referred(name: str, key: str, values: Mapping[str, object]) -> str:
    kind, colon, rest = name.partition(":")
    if colon and kind in ("oc.env", "env"):
        variable, _, default = rest.partition(",")
        value = os.environ.get(variable.strip(), default.strip() or None)
        if value is None:
            raise ValueError(f"the environment has no {variable.strip()}")
        return value
    section = key.rpartition(".")[0]
    for place in (name, f"{section}.{name}" if section else name):
        if place in values:
            return str(values[place])
    raise ValueError(f"there is no `{name}` in the file")


# --- generation_config.yaml ------------------------------------------------------------------------------------------


def generation_of(file: Path, scenes: Sequence[str], prompt: str | None, findings: Findings) -> GenerationSpec:
    """The generation section of a snapshot: ours as it is written, or what is understood of an older file."""
    understood: dict[str, Any] = {}
    if file.is_file():
        try:
            value, _ = read_yaml(file)
        except InvalidExperiment as error:
            findings.complain(file, f"it cannot be read: {error.problem}", "the defaults are written instead")
            value = {}
        ours = _ours(value)
        if ours is not None:
            return ours.model_copy(update={"scenes": tuple(scenes), "scenes_from": None})
        understood = _understood(value, file, findings)
    else:
        findings.complain(file, "the snapshot does not say how it was generated", "the defaults are written instead")
    if prompt is not None:
        understood.setdefault("export", {})["prompt"] = prompt
    return GenerationSpec.model_validate({"scenes": list(scenes), "renders": {"source": "precomputed"}, **understood})


def _ours(value: object) -> GenerationSpec | None:
    try:
        return GenerationSpec.model_validate(GenerationConfig.model_validate(value).generation)
    except ValidationError:
        return None  # an older file, of other keys


def _understood(value: object, file: Path, findings: Findings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unknown = []
    for key, inner in _flatten(value):
        dotted = GENERATION_KEYS.get(key.rpartition(".")[2])
        if dotted is None:
            unknown.append(key)
            continue
        trial = {part: dict(values) if isinstance(values, dict) else values for part, values in found.items()}
        _set(trial, dotted, inner)
        if dotted == "target_cameras.ids":
            _set(trial, "target_cameras.mode", "explicit")
        try:
            GenerationSpec.model_validate({"scenes": ["a_b"], **trial})
        except ValidationError as error:
            findings.complain(
                file, f"`{key}`: {error.errors()[0]['msg']}, found {inner!r}", "the default is written instead"
            )
            continue
        found = trial
    if unknown:
        findings.complain(file, f"keys that are not understood: {', '.join(sorted(unknown)[:20])}", "they are left out")
    return found


def _set(target: dict[str, Any], dotted: str, value: object) -> None:
    *folders, last = dotted.split(".")
    for folder in folders:
        target = target.setdefault(folder, {})
    target[last] = value


# --- run_config.yaml -------------------------------------------------------------------------------------------------


def run_of(run: FoundRun, findings: Findings) -> tuple[RunSpec, tuple[int, ...]]:
    """The run as an experiment file declares it, and the steps that it then says are saved."""
    flags = _run_flags(run, findings)
    base, steps = _backend(run, flags, findings)
    spec: dict[str, Any] = dict(base)
    for key, value in flags.items():
        if key in spec or key not in RunSpec.model_fields:
            continue
        try:
            RunSpec.model_validate({**spec, key: value})
        except ValidationError as error:
            findings.complain(
                run.config or run.folder,
                f"`{key}`: {error.errors()[0]['msg']}, found {value!r}",
                "the default is written",
            )
            continue
        spec[key] = value
    return RunSpec.model_validate(spec), steps


def _run_flags(run: FoundRun, findings: Findings) -> dict[str, Any]:
    if run.config is None:
        findings.complain(
            run.folder, "the run does not say with what it was tuned", "defaults stand in the experiment file"
        )
        return {}
    try:
        value, _ = read_yaml(run.config)
    except InvalidExperiment as error:
        findings.complain(run.config, f"it cannot be read: {error.problem}", "defaults stand in the experiment file")
        return {}
    return {key.rpartition(".")[2]: inner for key, inner in _flatten(value)}


def _backend(run: FoundRun, flags: Mapping[str, Any], findings: Findings) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Which backend saves at these steps: the published script at 1, N+1, ...; ours at N, 2N, ... and the last."""
    steps = run.steps
    cadence = flags.get("checkpointing_steps")
    every = cadence if isinstance(cadence, int) and cadence > 0 else _cadence(steps)
    said = flags.get("backend")
    if said == "tiny":  # a run of this platform, which says so itself
        ours = {"backend": "tiny", "checkpointing_steps": every, "max_train_steps": steps[-1]}
        if tuple(RunSpec.model_validate(ours).saved_steps()) == steps:
            return ours, steps
    script = {"script": str(flags.get("script") or DIFIX_SCRIPT)}
    published = {"backend": "external", "external": script, "checkpointing_steps": every, "max_train_steps": steps[-1]}
    if tuple(RunSpec.model_validate(published).saved_steps()) == steps:
        return published, steps
    model = next(
        (str(flags[key]) for key in ("base_model_id", "pretrained_model_name_or_path", "model") if flags.get(key)),
        BASE_MODEL,
    )
    same = {"backend": "difix", "model": model, "checkpointing_steps": every, "max_train_steps": steps[-1]}
    if tuple(RunSpec.model_validate(same).saved_steps()) == steps:
        return same, steps
    findings.complain(
        run.folder,
        f"no trainer saves at the steps {', '.join(map(str, steps[:8]))}",
        f"the last checkpoint, {steps[-1]}, is taken as a run that trains nothing (`pretrained`, step 0)",
    )
    checkpoint = run.folder / "checkpoints" / f"model_{steps[-1]}.pkl"
    return {"backend": "pretrained", "model": str(checkpoint)}, (0,)


def _cadence(steps: Sequence[int]) -> int:
    if len(steps) == 1:
        return max(1, steps[0])
    return max(1, steps[1] - steps[0])
