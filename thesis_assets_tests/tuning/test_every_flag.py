"""Each flag that our trainers accept, and each key of a run, changes something, is refused, or is said to have no effect."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.backends import DIFIX, TINY
from thesis_assets.tuning.checkpoints import list_checkpoints, load_checkpoint
from thesis_assets.tuning.progress_file import ProgressReader
from thesis_assets.tuning.run_config import TrainerFlags, parse_flags
from thesis_assets.tuning.trainer_start import resolve_flags
from thesis_assets_tests.images.lpips_weights import write_lpips_weights
from thesis_assets_tests.tuning.snapshots import arguments, equal, make_run, train, write_snapshot

PLACES = {"dataset_path", "output_dir", "tracker_run_name"}
SAID = "said to have no effect"
REFUSED = "refused"
CHANGES = "changes what the run leaves"
TABLE: dict[str, tuple[list[str], str]] = {
    "learning_rate": (["1e-4"], CHANGES),
    "lr_scheduler": (["constant"], CHANGES),
    "lr_warmup_steps": (["1"], CHANGES),
    "adam_beta1": (["0.1"], CHANGES),
    "adam_beta2": (["0.5"], CHANGES),
    "adam_weight_decay": (["0.9"], CHANGES),
    "adam_epsilon": (["1.0"], CHANGES),
    "max_grad_norm": (["1e-3"], CHANGES),
    "max_train_steps": (["4"], CHANGES),
    "train_batch_size": (["3"], CHANGES),
    "gradient_accumulation_steps": (["2"], CHANGES),
    "num_processes": (["2"], REFUSED),
    "resolution": (["16"], CHANGES),
    "seed": (["7"], CHANGES),
    "mixed_precision": (["bf16"], CHANGES),
    "dataloader_num_workers": (["1"], "see below"),
    "checkpointing_steps": (["1"], CHANGES),
    "eval_freq": (["1"], CHANGES),
    "num_samples_eval": (["2"], CHANGES),
    "resume": (["/elsewhere/model_3.pkl"], REFUSED),
    "lambda_l2": (["9.0"], CHANGES),
    "lambda_lpips": (["2.0"], SAID),
    "lambda_gram": (["2.0"], SAID),
    "gram_loss_warmup_steps": (["3"], SAID),
    "report_to": (["tensorboard"], CHANGES),
    "tracker_project_name": (["another", "--report_to", "tensorboard"], CHANGES),
    "tracker_entity": (["us"], SAID),
    "tracker_tags": (["a,b"], SAID),
    "viz_freq": (["3"], SAID),
    "timestep": (["3"], SAID),
    "mv_unet": ([], SAID),
    "prompt": (["x"], SAID),
    "lora_rank_vae": (["2"], SAID),
    "pretrained_model_name_or_path": (["x"], SAID),
    "base_model_id": (["x"], SAID),
    "revision": (["x"], SAID),
    "variant": (["x"], SAID),
    "tokenizer_name": (["x"], SAID),
    "cache_dir": (["x"], SAID),
    "train_image_prep": (["x"], SAID),
    "test_image_prep": (["x"], SAID),
    "num_training_epochs": (["3"], SAID),
    "lr_num_cycles": (["3"], SAID),
    "lr_power": (["3.0"], SAID),
    "gradient_checkpointing": ([], SAID),
    "enable_xformers_memory_efficient_attention": ([], SAID),
    "lpips_weights": (["LPIPS"], CHANGES),
    "set_grads_to_none": ([], SAID),
    "allow_tf32": ([], "said in its first line"),
    "mirror": (["--no-mirror"], CHANGES),
    "crop": (["16"], CHANGES),
    "lora_rank_unet": (["2"], SAID),
    "ema_decay": (["0.9"], CHANGES),
    "channels_last": ([], CHANGES),
    "patience": (["3"], REFUSED),
    "validation_groups": (["studio/pair02"], CHANGES),
    "keep_last": (["1", "--checkpointing_steps", "1"], CHANGES),
    "keep_steps": (["1", "--keep_last", "1", "--checkpointing_steps", "1"], CHANGES),
    "save_optimizer": (["--no-save_optimizer"], CHANGES),
}
BESIDE = {
    "keep_last": ["--checkpointing_steps", "1"],
    "keep_steps": ["--keep_last", "1", "--checkpointing_steps", "1"],
    "tracker_project_name": ["--report_to", "tensorboard"],
}
"""What a flag needs beside it to be of use: it is compared with a run that has these alone."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


def run(tree: DifixTree, run_name: str, words: list[str]) -> int:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision, and here are several runs
    flags = arguments(tree, run_name, max_train_steps=3, checkpointing_steps=3, eval_freq=3)
    try:
        return train([*flags, *words])
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def left(tree: DifixTree, run_name: str) -> Any:
    """What a run leaves: its files by name, the content of its checkpoints and evaluations, how its weights lie in memory."""
    there = tree.tuning_run(run_name)
    names = sorted(
        str(path.relative_to(there.base)).partition("events.out")[0] for path in there.base.rglob("*") if path.is_file()
    )
    states = [load_checkpoint(there.checkpoint(step)) for step in list_checkpoints(there)]
    tables = [path.read_text() for path in sorted(there.eval_dir.glob("*.csv"))]
    strides = [[one.stride() for one in state["state_dict_unet"].values()] for state in states]
    return names, states, tables, strides


@pytest.fixture(scope="module")
def plain(tree: DifixTree) -> dict[str, Any]:
    """By what stands beside a flag: what a run without the flag leaves."""
    found: dict[str, Any] = {}
    for number, words in enumerate([[], *BESIDE.values()]):
        assert run(tree, f"plain_{number}", words) == 0
        found[" ".join(words)] = left(tree, f"plain_{number}")
    return found


def test_every_flag_stands_in_the_table() -> None:
    assert {field.name for field in fields(TrainerFlags)} == TABLE.keys() | PLACES


@pytest.mark.parametrize("name", TABLE)
def test_a_flag_changes_something_is_refused_or_is_said_to_have_no_effect(
    tree: DifixTree, plain: Mapping[str, Any], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, outcome = TABLE[name]
    if "LPIPS" in words:
        words = [str(write_lpips_weights(tmp_path))]
    switches = words if words and words[0].startswith("--no-") else [f"--{name}", *words]
    status = run(tree, name, switches)
    if outcome == REFUSED:
        assert status == 1
        assert f"key: {name}" in capsys.readouterr().err or "patience" in name
        return
    assert status == 0
    start = next(iter(ProgressReader(tree.tuning_run(name).progress).new_lines())).message
    notes = read_json(tree.tuning_run(name).train_config, TrainConfig).notes
    is_said = any(note.startswith(f"{name} = ") and "no effect" in note for note in notes)
    same = equal(left(tree, name), plain[" ".join(BESIDE.get(name, []))])
    if outcome == CHANGES:
        assert not same, "accepted, and nothing came of it"
        assert not is_said
    elif outcome == SAID:
        assert is_said, notes
        assert "no effect" in start
        assert same, "it is said to have no effect, and has one"
    elif name == "allow_tf32":
        assert "allow_tf32 = True: no effect" in start
    else:
        assert same, "workers decode; the samples are the same"


def test_workers_are_as_many_as_asked_for_and_there_are_cores(tree: DifixTree, monkeypatch: pytest.MonkeyPatch) -> None:
    from thesis_assets.tuning import trainer_program

    monkeypatch.setattr(trainer_program, "available_cores", lambda: 4)
    for asked, given in ((0, 0), (2, 2), (9, 3)):
        flags = parse_flags(arguments(tree, "w", dataloader_num_workers=asked))
        assert trainer_program._inputs(flags, tree.tuning_run("w")).workers == given


def test_what_the_tiny_trainer_has_no_use_for_the_difix_trainer_has(tree: DifixTree, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the extra difix is not installed")
    from thesis_assets.tuning.difix import training
    from thesis_assets_tests.tuning.difix_models import write_sd_turbo

    base = write_sd_turbo(tmp_path / "sd-turbo")
    own = set(TINY.unused) - set(DIFIX.unused)
    asked: list[tuple[Any, ...]] = []
    find_model = training.find_model

    def looked_up(model: str, **how: Any) -> Any:
        asked.append((model, *sorted(how.items())))
        return find_model(base)

    def used(**changes: Any) -> list[Any]:
        words = arguments(tree, "d", lambda_lpips=0, lambda_gram=0)
        flags = TrainerFlags(**{**asdict(parse_flags(words)), **changes})
        asked.clear()
        made = training.DifixTraining(flags)
        network = made.network
        return [
            *(network.step.timestep, network.mv_unet, network.rank_vae, network.lora_rank, network.save_memory),
            *(made.prompt, training.loss_weights(flags), asked[0]),
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "find_model", looked_up)
        patch.setattr(training, "require_loss_weights", lambda *_: None)
        before = used()
        values = {
            **{"lambda_lpips": 1.0, "lambda_gram": 1.0, "gram_loss_warmup_steps": 1, "timestep": 99, "mv_unet": True},
            **{"prompt": "x", "lora_rank_vae": 2, "lora_rank_unet": 2, "gradient_checkpointing": True},
            **{"pretrained_model_name_or_path": "a/b", "base_model_id": "a/b", "revision": "r", "variant": "fp16"},
            "cache_dir": "c",
        }
        assert own == values.keys()
        for name, value in values.items():
            assert used(**{name: value}) != before, name


OTHERWISE = {
    "backend": "which trainer is started",
    "model": "the flag pretrained_model_name_or_path",
    "mixed_precision": "its flag, `no` on a CPU, which is said",
    "preset": "what a job on a cluster is given; said where the run is local",
    "stable_v100": "fills keys that the run does not write",
    "tracker": "the flags report_to and tracker_*",
    "selection": "which checkpoint is handed on; what its rule does not look at is said",
    "external": "the user's script, refused with another backend",
    "extra_args": "further flags",
    "resolution": "its flag, `auto` is resolved",
}


def test_every_key_of_a_run_is_a_flag_or_has_its_use(tree: DifixTree) -> None:
    flags = {field.name for field in fields(TrainerFlags)}
    assert RunSpec.model_fields.keys() - flags == OTHERWISE.keys() - flags
    given = {
        **dict.fromkeys(("max_train_steps", "checkpointing_steps", "eval_freq", "viz_freq", "train_batch_size"), 3),
        **dict.fromkeys(("gradient_accumulation_steps", "dataloader_num_workers", "gram_loss_warmup_steps"), 3),
        **dict.fromkeys(("lambda_lpips", "lambda_l2", "lambda_gram", "max_grad_norm", "learning_rate"), 3.0),
        **{"timestep": 3, "seed": 3, "num_processes": 3, "lora_rank_unet": 3, "keep_last": 3, "crop": 32},
        **{"mv_unet": False, "mirror": False, "save_optimizer": False, "ema_decay": 0.5, "patience": 3},
        **dict.fromkeys(("gradient_checkpointing", "allow_tf32", "channels_last"), True),
    }
    assert given.keys() == (RunSpec.model_fields.keys() & flags) - OTHERWISE.keys()
    run = make_run(**given, selection={"rule": "last", "groups": ["pair02"], "max_samples": 5})
    resolved, notes = resolve_flags(tree, "k", run, "cpu")
    for name, value in given.items():
        assert getattr(resolved, name) == value, name
    assert "selection.max_samples: no effect, rule last scores nothing" in notes
    assert any(note.startswith("allow_tf32 = True: no effect") for note in notes)


@pytest.mark.parametrize(
    "flag",
    [
        *(
            "--keep_last=-1",
            "--eval_freq=0",
            "--checkpointing_steps=0",
            "--train_batch_size=0",
            "--crop=-5",
            "--crop=30",
        ),
        *("--gradient_accumulation_steps=0", "--seed=-1", "--ema_decay=2", "--keep_steps=a,b"),
    ],
)
def test_a_flag_out_of_the_file_s_bounds_is_refused(flag: str) -> None:
    """By hand, or among `extra_args`, `--keep_last -1` removed every checkpoint."""
    given = ["--dataset_path", "d", "--output_dir", "o", "--tracker_run_name", "r"]
    assert parse_flags(given).seed == 42
    with pytest.raises(InvalidExperiment, match="out of bounds"):
        parse_flags([*given, flag])
