"""A run that trains nothing: its checkpoint is one that was there already, and it is a run like any other after that."""

from pathlib import Path

import pytest
import torch

from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.experiments.spec import EvaluationSpec, RunSpec, Selection
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.lineage import LineageLink
from thesis_assets.schemas.tuning import ProgressLine, TrainConfig
from thesis_assets.storage import read_json, sha256_file, write_json
from thesis_assets.tuning import run_checks, tuning_run
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS, latest_verified, load_checkpoint, verify_checkpoint
from thesis_assets.tuning.lineage import config_lineage
from thesis_assets.tuning.refine import load_refiner
from thesis_assets.tuning.run_config import lock_config, make_config, parse_flags
from thesis_assets.tuning.selection import select_checkpoint
from thesis_assets.tuning.take_pretrained import find_source, without_training
from thesis_assets.tuning.trainer_start import pretrained_start, setting_names
from thesis_assets.tuning.tuning_run import TrainerFailed, TuningResult, tune
from thesis_assets_tests.tuning.snapshots import SPLIT, arguments, make_run, write_snapshot
from thesis_assets_tests.tuning.test_checkpoints import save


def start(
    tree: DifixTree, run: RunSpec, run_name: str = "base", lines: list[ProgressLine] | None = None
) -> TuningResult:
    told = [] if lines is None else lines
    return tune(tree, run_name, run, split=SPLIT, device="cpu", launcher=LocalLauncher(), on_progress=told.append)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TuningRunTree:
    """A tuning run elsewhere, with the checkpoints 10 and 20."""
    run = TuningRunTree(tmp_path_factory.mktemp("elsewhere") / "run")
    for step in (10, 20):
        save(run, step)
    return run


@pytest.fixture(scope="module")
def lines() -> list[ProgressLine]:
    """What the finished run told."""
    return []


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, source: TuningRunTree, lines: list[ProgressLine]) -> DifixTree:
    """A snapshot with the run `base`, which took the checkpoint of step 20."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    result = start(tree, pretrained(source.checkpoint(20)), lines=lines)
    assert result.steps == [0]
    assert result.contact_sheet == tree.tuning_run("base").eval_contact_sheet(0)
    return tree


def pretrained(model: Path | str) -> RunSpec:
    return make_run(backend="pretrained", model=str(model), selection={"rule": "best_psnr"})


def test_the_weights_are_the_sources_and_nothing_of_its_training_is_left(
    tree: DifixTree, source: TuningRunTree
) -> None:
    run = tree.tuning_run("base")
    taken, there = load_checkpoint(run.checkpoint(0)), load_checkpoint(source.checkpoint(20))
    assert all(
        torch.equal(taken["state_dict_unet"][name], there["state_dict_unet"][name]) for name in there["state_dict_unet"]
    )
    assert set(taken) == {"state_dict_unet", "architecture", "resolution", "step"}
    assert verify_checkpoint(run, 0).step == taken["step"] == load_refiner(run.checkpoint(0)).step == 0


def test_it_tells_its_progress_and_is_evaluated(tree: DifixTree, lines: list[ProgressLine]) -> None:
    assert [line.event for line in lines] == ["start", "checkpoint", "eval", "done"]
    assert "nothing is trained" in lines[0].message
    assert tree.tuning_run("base").eval_metrics(0).is_file()
    assert "psnr_refined" in verify_checkpoint(tree.tuning_run("base"), 0).metrics


def test_it_is_selected_checked_and_handed_on_as_any_other_run(tree: DifixTree, source: TuningRunTree) -> None:
    run = pretrained(source.checkpoint(20))
    selected = select_checkpoint(tree, "base", run, evaluation_groups={"studio/pair03"}, device="cpu")
    assert (selected.step, selected.selection_groups) == (0, ["studio/pair02"])
    assert selected.scores[0].psnr_render > 0
    last = run.model_copy(update={"selection": Selection(rule="last")})
    assert select_checkpoint(tree, "base", last, evaluation_groups=set(), device="cpu").step == 0
    for check in (
        run_checks.checkpoint_loads,
        run_checks.checkpoint_belongs_to_data,
        run_checks.loss_is_finite,
        run_checks.train_config_complete,
    ):
        outcome = check(tree, "base")
        assert outcome.passed, outcome
    assert EvaluationSpec(epochs=(0, 15, 30)).epoch_steps(run) == {0: None, 15: 0, 30: 0}


def test_a_finished_one_starts_nothing_even_where_its_source_is_gone(
    tree: DifixTree, source: TuningRunTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_run, "run_job", lambda *_, **__: pytest.fail("a job was started"))
    path = source.checkpoint(20)
    away = path.with_name("away")
    path.rename(away)
    try:
        assert start(tree, pretrained(path)).steps == [0]
    finally:
        away.rename(path)


def test_its_lineage_names_the_weights_it_took(tree: DifixTree, source: TuningRunTree, tmp_path: Path) -> None:
    roots = SceneRoots(*(tmp_path / name for name in ("gt", "pre", "registry", "renders")))

    def weights() -> LineageLink:
        (link,) = [one for one in config_lineage(tree, "base", roots).made_from if one.kind == "weights"]
        return link

    path = source.checkpoint(20)
    content = path.read_bytes()
    assert (weights().state, weights().digest) == ("verified", sha256_file(path))
    try:
        path.write_bytes(content + b"0")
        assert weights().state == "recorded"
        assert "another one now" in weights().note
        path.unlink()
        assert "not there any more" in weights().note
    finally:
        path.write_bytes(content)


def test_another_source_under_the_same_name_is_refused(tree: DifixTree, source: TuningRunTree) -> None:
    with pytest.raises(SnapshotChanged, match="model_sha256") as caught:
        start(tree, pretrained(source.checkpoint(10)))
    assert sha256_file(source.checkpoint(10)) in str(caught.value)


def test_a_runs_directory_gives_its_last_checkpoint(source: TuningRunTree, tmp_path: Path) -> None:
    assert find_source(str(source.base)).checkpoint == source.checkpoint(20)
    assert find_source("nvidia/difix_ref").checkpoint is None
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InvalidFile, match="no finished checkpoint"):
        find_source(str(tmp_path))


@pytest.mark.parametrize("model", ["./not/there", "not_there.pkl", "/nowhere/at/all"])
def test_a_path_with_nothing_behind_it_is_no_hub_id(tmp_path: Path, model: str) -> None:
    tree = write_snapshot(tmp_path)
    with pytest.raises(InvalidFile, match="nothing to take the weights from"):
        start(tree, pretrained(model))
    assert not tree.frozen.exists()


def test_a_run_does_not_go_on_from_weights_alone(tree: DifixTree) -> None:
    newest, refused = latest_verified(tree.tuning_run("base"))
    assert newest is None
    assert "not what a run needs to go on" in refused[0]


def test_a_source_that_is_no_checkpoint_is_told_as_the_trainers_message(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    foreign = tmp_path / "foreign.pkl"
    torch.save({"weights": torch.zeros(3)}, foreign)
    with pytest.raises(TrainerFailed, match="neither one of the tiny backend"):
        start(tree, pretrained(foreign))
    assert read_json(tree.tuning_run("base").train_config, TrainConfig).flags["model_sha256"] == sha256_file(foreign)


def test_a_published_directory_becomes_a_checkpoint_of_the_published_keys(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the extra difix is not installed")
    pytest.importorskip("transformers", reason="the extra difix is not installed")
    pytest.importorskip("peft", reason="the extra difix is not installed")
    from thesis_assets_tests.tuning.difix_models import write_sd_turbo

    tree = write_snapshot(tmp_path / "snapshot")
    folder = write_sd_turbo(tmp_path / "model")
    result = start(tree, pretrained(folder))
    assert result.contact_sheet is not None
    state = load_checkpoint(tree.tuning_run("base").checkpoint(0))
    assert set(state) >= {*PUBLISHED_KEYS, "timestep", "mv_unet", "prompt", "base_model", "resolution", "step"}
    assert (state["base_model"]["name"], state["mv_unet"], state["prompt"]) == (str(folder), True, "remove degradation")
    # Taken once more it stays a file of the published keys, which the published code needs all of.
    assert set(without_training({**state, "random_state": {}, "scheduler": {}})) == set(state) - {"step"}


def test_the_base_model_of_a_published_checkpoint_is_that_of_its_run(tmp_path: Path, source: TuningRunTree) -> None:
    """Found by reading: a file of the published keys names no base model, and the new run's `model` is the file itself."""
    tree = write_snapshot(tmp_path / "snapshot")
    there = TuningRunTree(tmp_path / "run")
    flags = {"pretrained_model_name_or_path": "/models/sd-turbo"}
    config = read_json(tree_with_config(tree).train_config, TrainConfig)
    write_json(there.train_config, config.model_copy(update={"flags": flags}))
    there.checkpoints_dir.mkdir()
    there.checkpoint(1).write_bytes(b"any")
    for model, extra, base in (
        (there.checkpoint(1), [], "/models/sd-turbo"),
        (there.checkpoint(1), ["--pretrained_model_name_or_path", "/models/other"], "/models/other"),
        (source.checkpoint(10), [], None),
    ):
        run = make_run(backend="pretrained", model=str(model), extra_args=extra)
        settings = pretrained_start(tree, "new", run, "cpu").flags.values()
        assert settings["pretrained_model_name_or_path"] == base
        assert tuple(settings) == setting_names("pretrained")


def tree_with_config(tree: DifixTree) -> TuningRunTree:
    """A run of which only the configuration is there."""
    config = make_config(
        tree,
        "configured",
        backend="tiny",
        flags=parse_flags(arguments(tree, "configured")),
        notes=[],
        command=["trainer"],
        device="cpu",
        data_json_sha256="data",
        manifest_sha256={},
        n_train=8,
        n_test=8,
    )
    lock_config(tree, config)
    return tree.tuning_run("configured")
