"""The recording of a tuning run: a fixed choice of test samples, refined by each checkpoint, along the timeline `step`.

So that a regression is seen, not only measured. Does not belong here: scoring a checkpoint for selection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey, command_for
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.provenance import Unit
from thesis_assets.recordings.image_tracks import encoded_pixels
from thesis_assets.recordings.recording import (
    STEP,
    Recording,
    RecordingIdentity,
    begin_recording,
    finish_recording,
    identity_in,
    inputs_of,
    open_recording,
    options_of,
    recording_facts,
    recording_unit,
)
from thesis_assets.recordings.tracks import Absences, Colour, ExportOptions, person_colour
from thesis_assets.samples.recipes import recipe_beside
from thesis_assets.schemas.recordings import RecordingFacts
from thesis_assets.schemas.samples import DataJson
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets.tuning.checkpoints import handed_off, list_checkpoints, pruned_steps
from thesis_assets.tuning.scoring import HeldOutSample, from_data_json, stratified

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thesis_assets.tuning.trained_model import RefinesImages

ROOT = "/triplets"
N_SAMPLES = 6
SEED = 0
MAX_DATA_JSON_BYTES = 4 * 1024**3

LoadRefiner = Callable[[Path, str], "RefinesImages"]


@dataclass(frozen=True, eq=False)
class _Pictures:
    """The images of one sample: (H, W, 3) uint8. `title`: what a person calls it."""

    entity: str
    title: str
    colour: Colour
    render: NDArray[np.uint8]
    target: NDArray[np.uint8]
    reference: NDArray[np.uint8]


def export_triplets(
    tree: DifixTree,
    run_name: str,
    *,
    device: str = "cpu",
    load_refiner: LoadRefiner | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> RecordingFacts:
    """Write `tuning_runs/<run>/rerun/triplets.rrd` unless it is current.

    Args:
        device: where the checkpoints refine, `cpu` or `cuda`.
        load_refiner: how a checkpoint becomes a refiner; that of the tuning room by default.

    Raises:
        InvalidFile: the snapshot has no sample, the run no checkpoint, or the file could not be written.
    """
    from thesis_assets.recordings.blueprints import triplets_blueprint

    run = tree.tuning_run(run_name)
    path = run.triplet_recording
    unit = triplet_recording_unit(tree, run_name)
    making = begin_recording(unit)
    if making is None:
        return recording_facts(path)
    options, steps = options_of(unit), finished_steps(tree, run_name)
    samples, are_held_out = _choice(tree, N_SAMPLES, SEED)
    absences = Absences(tree.base)
    if not are_held_out:
        absences.not_there(tree.split_test, "nothing is held out, so these are samples of the training split")
    pictures = _read_pictures(samples, absences)
    blueprint = triplets_blueprint(ROOT, {shown.entity: shown.title for shown in pictures}, steps[-1])
    with open_recording(path, identity_in(unit), blueprint) as recording:
        for shown in pictures:
            _send_still_pictures(recording, shown, options)
        for number, step in enumerate(steps, start=1):
            refiner = _load(handed_off(run, step).checkpoint(step), device, load_refiner, absences)
            if refiner is not None:
                for shown in pictures:
                    _send_step(recording, shown, step, refiner, options)
            if on_progress is not None:
                on_progress(f"{path.name}: step {step}, {number} of {len(steps)} checkpoints, {len(pictures)} samples")
    return finish_recording(making, path, absences.lines)


def triplet_recording_unit(tree: DifixTree, run_name: str) -> Unit:
    """`triplets.rrd`, made from the run's checkpoints and the data that the samples are chosen from."""
    run = tree.tuning_run(run_name)
    inputs = inputs_of(run.triplet_recording, tree.base)
    with contextlib.suppress(InvalidFile):  # no checkpoint yet, or none any more
        # Their side files: a checkpoint itself, up to 5 GB, is not read for this; a removed one keeps its own.
        found = [
            storage.read_json(handed_off(run, step).checkpoint_info(step), CheckpointInfo)
            for step in finished_steps(tree, run_name)
        ]
        inputs.made |= {f"tuned_checkpoint/model_{info.step}": info.sha256 for info in found}
    data = tree.made_from("difix_data")
    if data.is_file() and not inputs.was_made_from_files([tree.samples_dir]):
        inputs.add_part("difix_data", data, [])
    else:
        with contextlib.suppress(InvalidFile):
            inputs.files |= {
                f"{tree.samples_dir.name}/{sample.sample_id}/{path.name}": path
                for sample in chosen_samples(tree)
                for path in (sample.render, sample.target, sample.reference)
            }
    identity = RecordingIdentity("triplets", tree.exp_name, run_name, scene_name="test samples")
    return recording_unit(run.triplet_recording, identity, None, inputs, n_samples=N_SAMPLES, seed=SEED)


def chosen_samples(tree: DifixTree, n_samples: int = N_SAMPLES, seed: int = SEED) -> list[HeldOutSample]:
    """Test samples, as even as can be over people and cameras; the same ones for every run of the snapshot.

    Where nothing is held out they are training samples: a picture of those says more than none.

    Raises:
        InvalidFile: data.json is missing or has no sample.
    """
    return _choice(tree, n_samples, seed)[0]


def _choice(tree: DifixTree, n_samples: int, seed: int) -> tuple[list[HeldOutSample], bool]:
    """The samples, and whether they are held out."""
    data = storage.read_json(tree.data_json, DataJson, max_bytes=MAX_DATA_JSON_BYTES)
    entries = data.test or data.train
    if not entries:
        raise InvalidFile("there is no sample to look at", file=tree.data_json, found="nothing")
    return stratified(from_data_json(tree.data_json, entries), n_samples, seed), bool(data.test)


def finished_steps(tree: DifixTree, run_name: str) -> list[int]:
    """Steps of the run's finished checkpoints, ascending; also those that were removed on request since.

    A recording that was made before keeps its pictures of them; a later one has them among its absences.

    Raises:
        InvalidFile: there is none.
    """

    run = tree.tuning_run(run_name)
    steps = sorted({*list_checkpoints(run), *pruned_steps(run)})
    if not steps:
        raise InvalidFile(
            "the tuning run has no finished checkpoint",
            file=run.checkpoints_dir,
            wanted="model_<step>.pkl with its model_<step>.json",
            remedy=f"`{command_for('tuned_checkpoint', tree.exp_name, run_name)}` trains it",
        )
    return steps


def sample_entity(sample_id: str) -> str:
    """The entity of one sample; its parts are `render`, `refined`, `target`, `reference` and `psnr/{render,refined,gain}`."""
    import rerun as rr

    return f"{ROOT}/{rr.escape_entity_path_part(sample_id)}"


def _title(held_out: HeldOutSample) -> str:
    """`pair02_hug cam 4 000003` of a sample, and its recipe where it has one; another pipeline's id as it is."""
    try:
        sample = SampleId.parse(held_out.sample_id, accept_older=True)
    except InvalidKey:
        return held_out.sample_id
    recipe = recipe_beside(held_out.render)
    title = f"{sample.scene_name.partition('_')[2]} cam {sample.target_cam_id} {sample.target_fname}"
    return f"{title}, {recipe}" if recipe else title


def _load(path: Path, device: str, load_refiner: LoadRefiner | None, absences: Absences) -> RefinesImages | None:
    from thesis_assets.tuning import refine

    try:
        return (load_refiner or refine.load_refiner)(path, device)
    except InvalidFile as error:
        absences.left_out(path, error.problem)
        return None


def _read_pictures(samples: list[HeldOutSample], absences: Absences) -> list[_Pictures]:
    """The images of every sample that is whole.

    Raises:
        InvalidFile: there is not one.
    """
    from thesis_assets.images.codecs import read_rgb

    found = []
    for number, sample in enumerate(samples):
        try:
            images = [read_rgb(path) for path in (sample.render, sample.target, sample.reference)]
            if images[0].shape != images[1].shape:
                raise InvalidFile("render and target differ in size", file=sample.render)
        except InvalidFile as error:
            absences.left_out(sample.render.parent, f"{Path(error.file or '').name}: {error.problem}")
        else:
            title, colour = _title(sample), person_colour(number)
            found.append(_Pictures(sample_entity(sample.sample_id), title, colour, *images))
    if not found:
        raise InvalidFile("no test sample can be read", file=absences.root, found="; ".join(absences.lines[:3]))
    return found


def _send_still_pictures(recording: Recording, shown: _Pictures, options: ExportOptions) -> None:
    """Log what no checkpoint changes."""
    import rerun as rr

    for part in ("render", "target", "reference"):
        blob, media_type = encoded_pixels(getattr(shown, part), lossless=options.lossless)
        recording.send_static(f"{shown.entity}/{part}", rr.EncodedImage(contents=blob, media_type=media_type))
    media_type = encoded_pixels(shown.render[:1, :1], lossless=options.lossless)[1]
    recording.send_static(f"{shown.entity}/refined", rr.EncodedImage.from_fields(media_type=media_type))
    dimmed = tuple(channel // 2 for channel in shown.colour)
    for part, colour, width in (("render", dimmed, 1.0), ("refined", shown.colour, 2.5), ("gain", shown.colour, 2.0)):
        name = shown.title if part == "gain" else f"{part} {shown.title}"
        style = rr.SeriesLines(names=name, colors=colour, widths=width)
        recording.send_static(f"{shown.entity}/psnr/{part}", style)


def _send_step(
    recording: Recording, shown: _Pictures, step: int, refiner: RefinesImages, options: ExportOptions
) -> None:
    """Refine one sample with one checkpoint; PSNR is that of the 8-bit picture, before it is encoded."""
    import rerun as rr

    from thesis_assets.images.metrics import psnr

    refined = _refine(refiner, shown)
    blob, _ = encoded_pixels(refined, lossless=options.lossless)
    recording.send_at(f"{shown.entity}/refined", STEP, step, rr.EncodedImage.columns(blob=[blob]))
    before, after = psnr(shown.render, shown.target), psnr(refined, shown.target)
    assert before is not None  # only an empty region has none
    assert after is not None
    for part, value in (("render", before), ("refined", after), ("gain", after - before)):
        recording.send_at(f"{shown.entity}/psnr/{part}", STEP, step, rr.Scalars.columns(scalars=[value]))


def _refine(refiner: RefinesImages, shown: _Pictures) -> NDArray[np.uint8]:
    from thesis_assets.images.quantise import quantise, to_host

    refined: NDArray[np.uint8] = to_host(quantise(refiner.refine(_batch(shown.render), _batch(shown.reference))))[0]
    return refined


def _batch(image: NDArray[np.uint8]) -> Any:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
