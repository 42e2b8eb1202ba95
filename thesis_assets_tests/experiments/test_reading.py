"""Reading experiment files: what is written is what is read; a mistake is named by file, line and key."""

import string
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from thesis_assets.errors import InvalidExperiment, InvalidKey
from thesis_assets.experiments import ExperimentFolder, ExperimentSpec, read_experiment
from thesis_assets.experiments.reading import MAX_EXPERIMENT_BYTES, parse_yaml, to_yaml
from thesis_assets.layout import KEY_PATTERN

MINIMAL = """\
exp_name: e
generation:
  scenes: ["hi4d_*"]
split:
  test_groups:
    hi4d: [pair15]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "e.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def plain(value: object) -> object:
    """As a file holds it: tuples are lists, and the keys of epochs are numbers, which JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def refusal(path: Path) -> InvalidExperiment:
    with pytest.raises(InvalidExperiment) as refused:
        read_experiment(path)
    return refused.value


def test_a_pipeline_that_takes_a_directory_is_refused_for_a_run_whose_checkpoint_becomes_none(tmp_path: Path) -> None:
    asks = "evaluation:\n  predictions: {source: command, command: 'run.sh {scene_name} {model_dir}'}\n"
    refused = refusal(write(tmp_path, MINIMAL + "runs:\n  r1: {max_train_steps: 100}\n" + asks))
    assert "{model_dir}" in str(refused)
    assert "runs: r1" in str(refused)
    tuned = "runs:\n  r1: {backend: difix, model: stabilityai/sd-turbo}\n"
    assert read_experiment(write(tmp_path, MINIMAL + tuned + asks)).runs["r1"].backend == "difix"


def test_a_run_that_ends_early_is_refused_where_nobody_is_there_to_end_it_by(tmp_path: Path) -> None:
    runs = "runs:\n  r1: {patience: 3}\n"
    refused = str(refusal(write(tmp_path, MINIMAL + runs)))
    assert "runs.r1.patience" in refused
    assert "every test group is reported on" in refused
    alone = MINIMAL.replace("  test_groups:\n    hi4d: [pair15]\n", "  train_only: true\n")
    chosen = "runs:\n  r1: {patience: 3, selection: {groups: [pair15]}}\n"
    assert "nothing is held out" in str(refusal(write(tmp_path, alone + chosen)))
    assert read_experiment(write(tmp_path, MINIMAL + chosen)).runs["r1"].patience == 3
    reported = "evaluation: {scenes: [hi4d_pair16_hug]}\n"
    assert read_experiment(write(tmp_path, MINIMAL + runs + reported)).runs["r1"].patience == 3


# --- round trip ------------------------------------------------------------------------------------------------------

Values = st.SearchStrategy[dict[str, object]]

WORDS = st.text(string.printable, min_size=1, max_size=12) | st.sampled_from(
    ["no", "yes", "null", "~", "1e3", "0x1f", "2024-01-01", "a: b", "# no comment", "{x}", "*star", "&anchor", "é名"]
)
KEYS = st.from_regex(KEY_PATTERN, fullmatch=True).filter(lambda key: ".." not in key and len(key) <= 40)
RENDER_COMMANDS = st.sampled_from(["render {scene_name}", "python a.py --out '{render_dir}' {{x}}", "# é: {exp_name}"])
WORD_LISTS = st.lists(WORDS, max_size=3)
COUNTS = st.integers(1, 50)
CAMERAS = st.lists(st.integers(0, 99), unique=True, max_size=4)
WEIGHTS = st.floats(0, 10, allow_nan=False)


def some_of(**fields: st.SearchStrategy[object]) -> Values:
    """Any subset of the fields; those left out keep their defaults."""
    return st.fixed_dictionaries({}, optional=fields)


def all_of(**fields: st.SearchStrategy[object]) -> Values:
    return st.fixed_dictionaries(dict(fields))


def both(first: Values, second: Values) -> Values:
    return st.builds(lambda one, other: {**one, **other}, first, second)


ENVIRONMENT = some_of(
    python=WORDS, setup=WORD_LISTS, cwd=st.none() | WORDS, env=st.dictionaries(WORDS, WORDS, max_size=2)
)
REFERENCE = (
    all_of(strategy=st.sampled_from(["same_time_source", "nearest_camera"]))
    | all_of(strategy=st.just("temporal_offset"), offset=st.sampled_from([-3, 5]))
    | all_of(
        strategy=st.just("mixed"),
        offset=st.just(2),
        weights=st.just({"temporal_offset": 0.25, "same_time_source": 0.75}),
        seed=COUNTS,
    )
)
GENERATION = both(
    all_of(scenes=st.lists(WORDS, min_size=1, max_size=3)) | all_of(scenes_from=WORDS),
    some_of(
        exclude=WORD_LISTS,
        on_new_scenes=st.sampled_from(["export", "ignore"]),
        auto_fork=st.booleans(),
        source_camera=st.just("registry") | st.integers(0, 99),
        target_cameras=CAMERAS.map(lambda ids: {"mode": "explicit", "ids": ids} if ids else {}),
        frames=some_of(stride=COUNTS, max_samples_per_camera=COUNTS, apply_skip_frames=st.booleans()),
        reference=REFERENCE,
        renders=both(
            all_of(source=st.sampled_from(["gaussians", "precomputed"]))
            | all_of(source=st.just("command"), command=RENDER_COMMANDS),
            ENVIRONMENT,
        ),
        filtering=some_of(min_mask_coverage=st.floats(0, 1), apply_mask=st.booleans()),
        export=some_of(prompt=WORDS, png_encoder=st.sampled_from(["isal", "pillow", "opencv"])),
    ),
)
SPLIT = both(
    all_of(test_groups=st.dictionaries(WORDS, WORD_LISTS, min_size=1, max_size=3))
    | all_of(test_fraction=st.floats(0.01, 0.99), seed=COUNTS)
    | all_of(train_only=st.just(True)),
    some_of(reserved_scenes=WORD_LISTS, group_rules=st.just({"mmm": "scene_name", "new": r"^new_(\w+)_"})),
)
EXTERNAL = all_of(backend=st.just("external"), external=both(all_of(script=WORDS), ENVIRONMENT))
RUN = both(
    both(
        all_of(backend=st.just("tiny")) | all_of(backend=st.sampled_from(["difix", "pretrained"]), model=WORDS),
        some_of(checkpointing_steps=COUNTS),
    )
    | both(EXTERNAL, some_of(checkpointing_steps=st.integers(2, 50))),  # its script never saves with 1
    some_of(
        learning_rate=WEIGHTS,
        lambda_l2=WEIGHTS,
        max_train_steps=COUNTS,
        mixed_precision=st.sampled_from(["bf16", "fp16", "no"]),
        tracker=some_of(kind=st.sampled_from(["tensorboard", "wandb", "none"]), tags=WORD_LISTS),
        selection=some_of(rule=st.sampled_from(["best_psnr", "last"]), groups=WORD_LISTS, max_samples=COUNTS),
        extra_args=WORD_LISTS,
    ),
)
EPOCHS = st.lists(COUNTS, min_size=1, unique=True).map(sorted)
MADE_ELSEWHERE = all_of(
    source=st.just("existing"),
    tree=st.sampled_from(["/old/{run_name}/{scene_name}", "there"]),
    recompute=st.booleans(),
) | both(
    all_of(
        source=st.just("command"), command=st.sampled_from(["make {scene_name} {output_dir}", "./run {checkpoint}"])
    ),
    ENVIRONMENT,
)
EVALUATION = both(
    some_of(epochs=EPOCHS | st.just({0: "unrefined"}), predictions=st.just("refine"))
    | some_of(epochs=EPOCHS, predictions=MADE_ELSEWHERE),
    some_of(
        scenes=WORD_LISTS,
        tasks=st.lists(st.sampled_from(["nvs", "pose_smplx", "pose_smpl"]), min_size=1, unique=True),
        cameras=CAMERAS,
        frames=some_of(stride=COUNTS, max_per_camera=COUNTS),
        nvs=some_of(region=st.sampled_from(["full_frame", "mask", "bbox"]), downscale_factor=COUNTS),
    ),
)
EXPERIMENTS = all_of(
    exp_name=KEYS,
    description=WORDS,
    generation=GENERATION,
    split=SPLIT,
    runs=st.dictionaries(KEYS, RUN, max_size=3),
    evaluation=EVALUATION,
).map(ExperimentSpec.model_validate)


@settings(max_examples=60, deadline=None)
@given(EXPERIMENTS)
def test_an_experiment_written_as_yaml_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, spec: ExperimentSpec
) -> None:
    folder = ExperimentFolder(tmp_path_factory.mktemp("experiments", numbered=True))
    folder.path(spec.exp_name).write_text(to_yaml(plain(spec.model_dump())), encoding="utf-8")

    assert folder.read(spec.exp_name) == spec
    assert folder.names() == [spec.exp_name]


# --- what YAML makes of a word ---------------------------------------------------------------------------------------


def test_numbers_and_words_are_read_as_they_are_meant(tmp_path: Path) -> None:
    runs = "runs:\n  a: {mixed_precision: no, learning_rate: 2e-5, tracker: none}\n"

    run = read_experiment(write(tmp_path, MINIMAL + runs)).runs["a"]

    assert (run.mixed_precision, run.learning_rate, run.tracker.kind) == ("no", 2e-5, "none")


def test_epochs_by_hand_name_their_steps(tmp_path: Path) -> None:
    text = MINIMAL + (
        "runs:\n  a: {max_train_steps: 100, checkpointing_steps: 30}\n"
        "evaluation:\n  epochs: {0: unrefined, 15: {step: 60}, 30: {step: 100}}\n"
    )

    spec = read_experiment(write(tmp_path, text))

    assert spec.evaluation.epoch_steps(spec.runs["a"]) == {0: None, 15: 60, 30: 100}


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES = {
    "an unknown key": (MINIMAL.replace("scenes:", "scene:"), 3, "generation.scene"),
    "an unknown key in a run": (MINIMAL + "runs:\n  a:\n    max_steps: 5\n", 9, "runs.a.max_steps"),
    "an unknown part": (MINIMAL + "tuning: {}\n", 7, "tuning"),
    "a missing part": (MINIMAL.split("split:")[0], 1, "split"),
    "a number out of range": (MINIMAL + "runs:\n  a:\n    resolution: 0\n", 9, "runs.a.resolution"),
    "an infinite number": (MINIMAL + "runs:\n  a:\n    learning_rate: .inf\n", 9, "runs.a.learning_rate"),
    "a negative number": (MINIMAL + "runs:\n  a:\n    learning_rate: -1\n", 9, "runs.a.learning_rate"),
    "a word of no choice": (MINIMAL + "evaluation:\n  nvs:\n    region: all\n", 9, "evaluation.nvs.region"),
    "a wrong entry of a list": (MINIMAL + "evaluation:\n  tasks:\n    - nvs\n    - depth\n", 10, "evaluation.tasks.1"),
    "a union's wrong value": (MINIMAL.replace("split", "  source_camera: main\nsplit"), 4, "generation.source_camera"),
    "a negative camera": (MINIMAL.replace("split", "  source_camera: -1\nsplit"), 4, "generation.source_camera"),
    "true for a camera": (MINIMAL.replace("split", "  source_camera: true\nsplit"), 4, "generation.source_camera"),
    "a camera twice": (
        MINIMAL.replace("split", "  target_cameras:\n    mode: explicit\n    ids: [4, 4]\nsplit"),
        4,
        "generation.target_cameras",
    ),
    "two ways to hold out": (MINIMAL + "  train_only: true\n", 4, "split"),
    "a rule that captures nothing": (MINIMAL + "  group_rules: {new: new_.*}\n", 7, "split.group_rules"),
    "a rule that is no expression": (MINIMAL + "  group_rules: {new: '('}\n", 7, "split.group_rules"),
    "an epoch that is never saved": (
        MINIMAL + "runs:\n  a: {max_train_steps: 100}\nevaluation:\n  epochs: {3: {step: 7}}\n",
        1,
        None,
    ),
    "an epoch with an unknown key": (MINIMAL + "evaluation:\n  epochs:\n    3: {stop: 7}\n", 9, "evaluation.epochs.3"),
    "a run whose name is no key": (MINIMAL + "runs:\n  ../a: {}\n", 7, "runs"),
    "a name that is no key": (MINIMAL.replace("exp_name: e", "exp_name: a/b"), 1, "exp_name"),
    "a name that is a number": (MINIMAL.replace("exp_name: e", "exp_name: 12"), 1, "exp_name"),
    "another name than the file's": (MINIMAL.replace("exp_name: e", "exp_name: f"), 1, "exp_name"),
    "a key twice": (MINIMAL + "exp_name: e\n", 7, None),
    "an alias": ("exp_name: e\na: &x [1]\nb: *x\n", 3, None),
    "a Python object": ("exp_name: e\na: !!python/object/apply:os.getcwd []\n", 2, None),
    "a tab for a space": ("exp_name: e\n\tgeneration: {}\n", 2, None),
    "an open bracket": ("exp_name: [\n", 2, None),
    "two documents": (MINIMAL + "---\n" + MINIMAL, 7, None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_by_file_line_and_key(tmp_path: Path, mistake: str) -> None:
    text, line, key = MISTAKES[mistake]
    path = write(tmp_path, text)

    error = refusal(path)

    assert (error.file, error.key) == (f"{path}:{line}", key)


@pytest.mark.parametrize(
    "text", ["", "- a list\n", "only text\n", "a: \x07\n", "\udcff\n", "\0", "{" * 5000, "a: " + "[" * 3000]
)
def test_a_file_that_is_no_experiment_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)

    assert str(refusal(path).file).startswith(str(path))


@pytest.mark.parametrize(
    ("part", "near"),
    [
        ("runs:\n  a: {lerning_rate: 1.0e-5}\n", "near: learning_rate)"),
        ("runs:\n  a: {selection: {rul: last}}\n", "near: rule)"),
        ("evaluation:\n  nvs: {regions: mask}\n", "near: region)"),
        ("runz: {}\n", "near: runs)"),
    ],
)
def test_a_key_that_is_not_there_is_answered_with_those_near_it_in_its_part(
    tmp_path: Path, part: str, near: str
) -> None:
    error = refusal(write(tmp_path, MINIMAL + part))
    assert "there is no such key" in error.problem
    assert near in (error.remedy or "")


def test_every_mistake_is_told_not_only_the_first(tmp_path: Path) -> None:
    text = MINIMAL + "runs:\n  a: {resolution: 0, seed: x}\n  b: {max_steps: 5}\n"

    remedy = refusal(write(tmp_path, text)).remedy or ""

    assert "runs.a.seed" in remedy
    assert "runs.b.max_steps" in remedy


def test_an_epoch_that_does_not_fit_a_run_is_answered_with_its_saved_steps(tmp_path: Path) -> None:
    text = MISTAKES["an epoch that is never saved"][0].replace("100", "3000")

    assert "run `a`" in str(refusal(write(tmp_path, text)))
    assert "[1000, 2000, 3000]" in str(refusal(write(tmp_path, text)))


def test_a_file_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    assert "too large" in str(refusal(write(tmp_path, MINIMAL + "# " + "x" * MAX_EXPERIMENT_BYTES)))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "no such" in str(refusal(tmp_path / "e.yaml"))
    (tmp_path / "e.yaml").mkdir()
    assert "folder" in str(refusal(tmp_path / "e.yaml"))


def test_a_file_whose_name_is_no_key_is_refused_by_name_and_the_others_are_listed(tmp_path: Path) -> None:
    (tmp_path / "my experiment.yaml").write_text(MINIMAL)
    (tmp_path / "e.yaml").write_text(MINIMAL)

    assert ExperimentFolder(tmp_path).names() == ["e"]
    [(name, reason)] = ExperimentFolder(tmp_path).misnamed().items()
    assert "my experiment" in name
    assert "cannot become a key" in reason
    with pytest.raises(InvalidKey):
        ExperimentFolder(tmp_path).path("../e")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-5", 2e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
    ],
)
def test_words_numbers_and_switches_are_those_of_yaml_1_2(written: str, value: object) -> None:
    found, _ = parse_yaml(f"key: {written}\n", Path("a.yaml"))
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("number", ["0x" + "f" * 6000, "9" * 6000, "1" * 19])
def test_a_number_that_nobody_means_is_refused_by_line(tmp_path: Path, number: str) -> None:
    path = write(tmp_path, MINIMAL + f"runs:\n  a:\n    seed: {number}\n")
    with pytest.raises(InvalidExperiment, match="digits") as caught:
        read_experiment(path)
    assert str(caught.value.file).endswith(":9")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "-1"),
        ("max_train_steps", "1000000000000"),
        ("max_train_steps", "1:30"),
        ("max_train_steps", "100.0"),
        ("max_train_steps", "true"),
        ("mv_unet", "yes"),
        ("mv_unet", "1"),
        ("learning_rate", "'2e-5'"),
        ("mixed_precision", "false"),
        ("num_processes", "[false, true]"),
        ("resolution", "1000000"),
    ],
)
def test_a_value_of_another_kind_or_beyond_its_bounds_is_refused_and_nothing_is_coerced(
    tmp_path: Path, key: str, value: str
) -> None:
    path = write(tmp_path, MINIMAL + f"runs:\n  a:\n    {key}: {value}\n")
    with pytest.raises(InvalidExperiment) as caught:
        read_experiment(path)
    assert (str(caught.value.file), caught.value.key) == (f"{path}:9", f"runs.a.{key}")


def test_checkpoints_are_counted_before_they_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "runs:\n  a: {max_train_steps: 100000000, checkpointing_steps: 1}\n")
    with pytest.raises(InvalidExperiment, match="100000000; at most"):
        read_experiment(path)


def test_every_number_and_switch_of_an_experiment_has_bounds_and_is_strict() -> None:
    """Walks the schema: a number that is added without bounds, or a switch that takes `yes`, fails here by name."""
    schema = ExperimentSpec.model_json_schema()
    loose = [
        f"{part}.{name}"
        for part, model in {"": schema, **schema["$defs"]}.items()
        for name, field in model.get("properties", {}).items()
        for form in (field, *field.get("anyOf", ()), *([field["items"]] if "items" in field else ()))
        if form.get("type") in ("integer", "number")
        and not ({"minimum", "exclusiveMinimum"} & form.keys() and {"maximum", "exclusiveMaximum"} & form.keys())
    ]
    assert loose == []
    lax = [
        f"{model.__name__}.{name}"
        for model in _parts(ExperimentSpec)
        for name, field in model.model_fields.items()
        if {bool, int, float} & set(_leaves(field.annotation)) and "Strict" not in repr(field)
    ]
    assert lax == []


def _parts(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = {leaf for field in model.model_fields.values() for leaf in _leaves(field.annotation)}
    parts = {leaf for leaf in inner if isinstance(leaf, type) and issubclass(leaf, BaseModel)}
    return {model, *(each for part in parts for each in _parts(part))}


def _leaves(annotation: object) -> list[object]:
    inner = get_args(annotation)
    return [leaf for each in inner for leaf in _leaves(each)] if inner else [annotation]
