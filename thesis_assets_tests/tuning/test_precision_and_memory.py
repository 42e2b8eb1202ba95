"""Precision that cannot be had, parameters in half precision, steps that do not fit in memory, rates for another network."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from thesis_assets.errors import InvalidExperiment
from thesis_assets.layout import DifixTree
from thesis_assets.tuning.backends import TINY
from thesis_assets.tuning.checkpoints import list_checkpoints, load_checkpoint, verify_checkpoint
from thesis_assets.tuning.progress_file import out_of_memory, read_curves
from thesis_assets.tuning.run_config import parse_flags
from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner
from thesis_assets.tuning.training_loop import TrainingStep, precision_notes, refuse_emulated_bf16
from thesis_assets_tests.tuning.snapshots import arguments, same_state, stopping_at, train, write_snapshot


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_full_precision_weights_and_resumes_to_the_bit(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    flags = {"max_train_steps": 12, "checkpointing_steps": 12, "eval_freq": 12}
    lower = {**flags, "mixed_precision": precision}
    run, halves = tree.tuning_run(precision), tree.tuning_run(f"{precision}-halves")
    assert train(arguments(tree, precision, **lower)) == 0
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        assert train(arguments(tree, halves.base.name, **lower)) == 0
    assert list_checkpoints(halves) == [5]
    assert train(arguments(tree, halves.base.name, **lower)) == 0
    assert same_state(run, halves, 12)
    state = load_checkpoint(run.checkpoint(12))
    assert {tensor.dtype for tensor in state["state_dict_unet"].values()} == {torch.float32}
    losses = read_curves(run.progress)["loss"]
    assert losses[-1] < losses[0]


def accelerator(precision: str, device: str) -> SimpleNamespace:
    return SimpleNamespace(mixed_precision=precision, device=torch.device(device))


def test_parameters_that_come_in_half_precision_are_trained_in_full_and_it_is_told() -> None:
    network = TinyRefiner(TinyArchitecture(8, 8, 8, 1)).half()
    frozen = network.stem.weight.requires_grad_(False)
    [note] = precision_notes(accelerator("fp16", "cpu"), network)  # type: ignore[arg-type]
    assert "came in float16" in note
    assert "gradient scaler fails" in note
    assert {one.dtype for one in network.parameters() if one.requires_grad} == {torch.float32}
    assert frozen.dtype == torch.float16
    assert precision_notes(accelerator("fp16", "cpu"), network) == []  # type: ignore[arg-type]


def test_a_gpu_that_only_emulates_bf16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    network = TinyRefiner(TinyArchitecture(8, 8, 8, 1))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    [note] = precision_notes(accelerator("bf16", "cuda"), network)  # type: ignore[arg-type]
    assert "bf16: this GPU only emulates it" in note
    assert precision_notes(accelerator("no", "cuda"), network) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "device", "capability", "refused"),
    [
        ("bf16", "cuda", (7, 0), True),
        ("no", "cuda", (7, 0), False),
        ("bf16", "cuda", (7, 5), False),  # told, as above
        ("bf16", "cuda", (9, 0), False),
        ("bf16", "cpu", (7, 0), False),
    ],
)
def test_bf16_on_a_volta_gpu_is_refused_by_the_device_the_trainer_came_to(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, capability: tuple[int, int], refused: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100-PCIE-32GB")
    expected = pytest.raises(InvalidExperiment, match="V100-PCIE") if refused else contextlib.nullcontext()
    with expected as caught:
        refuse_emulated_bf16(accelerator(precision, device))  # type: ignore[arg-type]
    if refused:
        assert "`stable_v100: true`" in str(caught.value.remedy)


def test_the_trainer_asks_its_device_before_it_builds_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thesis_assets.tuning import training_loop

    def refuse(accelerator: object) -> None:
        raise InvalidExperiment("no bf16 here")

    monkeypatch.setattr(training_loop, "refuse_emulated_bf16", refuse)
    tree = write_snapshot(tmp_path)
    assert train(arguments(tree, "r1")) == 1
    assert "no bf16 here" in capsys.readouterr().err
    assert not tree.tuning_run("r1").train_config.exists()


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """A process has one precision: that of its first accelerator."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_precision_that_cannot_be_had_here_names_its_key(tree: DifixTree, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(arguments(tree, "with-fp8", mixed_precision="fp8")) == 1
    told = capsys.readouterr().err
    assert "key: mixed_precision" in told
    assert "found: fp8" in told
    assert "remedy: set mixed_precision: no" in told


def test_a_step_that_does_not_fit_in_memory_names_itself_and_the_way_out(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = TrainingStep.make

    def out_of_memory(self: TrainingStep, step: int, micro_batches: object) -> object:
        if step == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return make(self, step, micro_batches)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingStep, "make", out_of_memory)
    assert train(arguments(tree, "large")) == 1
    told = capsys.readouterr().err
    assert "step 5 does not fit in memory" in told
    assert "2 at 32: CUDA out of memory" in told
    for way in ("halve train_batch_size", "gradient_checkpointing: true", "lora_rank_unet: 16", "a lower resolution"):
        assert way in told
    run = tree.tuning_run("large")
    assert list_checkpoints(run) == [3]
    verify_checkpoint(run, 3)


def test_a_batch_of_one_is_not_to_be_halved(tree: DifixTree) -> None:
    flags = parse_flags([*arguments(tree, "r", train_batch_size=1, mixed_precision="bf16"), "--gradient_checkpointing"])
    told = str(out_of_memory(MemoryError(), 1, flags))
    assert "lora_rank_unet: 16" in told
    for way in ("halve", "gradient_checkpointing", "mixed_precision"):
        assert way not in told.partition("remedy")[2]


def test_a_rate_for_fine_tuning_is_told_where_a_network_is_trained_from_nothing(tree: DifixTree) -> None:
    low, right = (parse_flags(arguments(tree, "r", learning_rate=rate)) for rate in (2e-5, 2e-3))
    assert "2e-05" in TINY.check(low)[0]
    assert TINY.check(right) == []
