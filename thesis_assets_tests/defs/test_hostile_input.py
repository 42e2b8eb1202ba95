"""Names and files that mean harm: nothing leaves its root, nothing is executed, nothing becomes markup, every refusal reads well."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.errors import InvalidKey, ThesisAssetsError, printable
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import DifixTree, SceneTree, check_key, dataset_of, evaluation_tree
from thesis_assets.operations.metadata import table
from thesis_assets.reports.check_page import render_check_page
from thesis_assets.scenes.catalog import list_scenes
from thesis_assets.schemas.checks import CheckRow
from thesis_assets_tests.defs.hostile import MARKUP, N_FILES, N_NAMES, SENTINEL, files, names
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, tiny_world

NAMES, FILES = names(), files()
LONGEST_REFUSAL = 4000


class Elements(HTMLParser):
    """Every element that a browser would see, with its attributes' names."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.seen.update(f"{tag}.{name}" for name, _ in attrs)


def elements(page: str) -> Counter[str]:
    parser = Elements()
    parser.feed(page)
    return parser.seen


@pytest.fixture(autouse=True)
def nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No command of a name or a file has run, wherever it would have left its trace."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob(f"{SENTINEL}*"))
    assert not Path("/tmp", SENTINEL).exists()


def readable(refusal: str) -> None:
    """One can print it and read it: no control character reaches a terminal, and it is not a page long."""
    assert refusal.strip()
    assert printable(refusal) == refusal, ascii(refusal)
    assert len(refusal) < LONGEST_REFUSAL
    assert "Traceback" not in refusal


def test_there_are_three_hundred_of_them() -> None:
    assert len(NAMES) + len(FILES) == N_NAMES + N_FILES == 300
    assert len(set(NAMES)) == N_NAMES


def test_a_name_is_refused_in_words_or_every_path_made_of_it_stays_in_its_root(tmp_path: Path) -> None:
    accepted = []
    for name in NAMES:
        try:
            check_key(name, "exp_name")
        except InvalidKey as error:
            readable(str(error))
            with pytest.raises(InvalidKey):
                DifixTree(tmp_path / "difix", name)
            continue
        accepted.append(name)
        tree = DifixTree(tmp_path / "difix", name)
        paths = [tree.base, tree.scene_run(name).base, tree.tuning_run(name).base, tree.lock(name), tree.samples_dir]
        evaluated = evaluation_tree(
            "{results_root}/{run_name}/{scene_name}",
            results_root=tmp_path / "results",
            exp_name=name,
            run_name=name,
            scene_name=name if "_" in name else f"d_{name}",
        )
        for path, root in [*((path, tmp_path / "difix") for path in paths), (evaluated.base, tmp_path / "results")]:
            assert Path(os.path.normpath(path)).is_relative_to(root)
            assert len(path.relative_to(root).parts) >= 1
    assert {"v1", "hi4d_pair00_hug", "lr-5e-5", "A.b_c-d", "0"} <= set(accepted)
    assert not any(character in name for name in accepted for character in "/\\<>|&\x00 \n")


def test_a_folder_of_any_name_among_the_scenes_is_listed_as_what_it_is_and_harms_no_other(tmp_path: Path) -> None:
    world = tiny_world(tmp_path)
    add_scene(world, "hi4d_pair00_hug")
    roots = world.platform.roots
    made = set()
    for name in NAMES:
        if name in ("", ".", "..") or "/" in name or "\x00" in name:
            continue
        try:
            (roots.canonical_gt / name).mkdir(exist_ok=True)
        except (OSError, UnicodeEncodeError):
            continue  # the file system refuses it itself
        made.add(name)
    assert len(made) > 50
    scenes = list_scenes(roots)
    assert "hi4d_pair00_hug" in scenes
    for name in scenes:
        assert dataset_of(name)
    for name in made - set(scenes):
        with pytest.raises(InvalidKey):
            SceneTree(roots.canonical_gt, roots.preprocessing, roots.registry, roots.renders, name)


def test_a_partition_key_of_any_name_is_refused_before_it_becomes_a_path(tmp_path: Path) -> None:
    platform = tiny_world(tmp_path).platform
    for name in NAMES:
        for kind, key in (("exp", name), ("exp_by_run", f"v1|{name}"), ("exp_by_scene", f"{name}|{name}")):
            try:
                cell = Cell.parse(kind, key)  # type: ignore[arg-type]
            except InvalidKey as error:
                readable(str(error))
                continue
            if cell == Cell():
                continue
            with pytest.raises(dg.Failure) as refused:
                platform.refuse_undeclared([cell])
            readable(printable(refused.value.description or ""))


def test_an_experiment_file_of_any_content_is_refused_alone_with_its_reason(tmp_path: Path) -> None:
    world = tiny_world(tmp_path)
    folder = world.settings.experiments_dir
    folder.mkdir(parents=True)
    add_scene(world, "hi4d_pair00_hug")
    for number, content in enumerate(FILES):
        (folder / f"e{number}.yaml").write_bytes(content.replace(b"e@", f"e{number}".encode()))
    os.mkfifo(folder / "pipe.yaml")
    (folder / "device.yaml").symlink_to("/dev/zero")
    for name in ("../e", "a b.yaml", f"{MARKUP.replace('/', '')}.yaml", "x" * 240 + ".yaml", "\x1b[31m.yaml"):
        (folder / name.replace("/", "")).write_text("exp_name: x\n")
    outside = sorted(path.name for path in tmp_path.iterdir())

    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(world, instance)
        ticks.tick("experiment_files")
        from thesis_assets.operations.registration import plan_registration

        plan = plan_registration(world.platform, instance)
        registered = {
            name: list(instance.get_dynamic_partitions(name)) for name in ("exp_name", "scene_name", "run_name")
        }

    assert "e0" in plan.cells
    assert len(plan.cells) + len(plan.refused) == len(list(folder.glob("*.yaml")))
    assert len(plan.refused) > N_FILES / 2
    for name, reason in plan.refused.items():
        readable(reason)
        assert name.strip("'").removesuffix(".yaml")[:20] in reason or name in reason
    for keys in registered.values():
        for key in keys:
            check_key(key, "key")
    for spec in world.platform.readable_experiments():
        for cell in (Cell(spec.exp_name), *(Cell(spec.exp_name, run_name=run) for run in spec.runs)):
            assert world.platform.difix(cell).base.is_relative_to(world.settings.difix_data_root)
    assert sorted(path.name for path in tmp_path.iterdir()) == outside


def test_no_name_becomes_markup_in_a_page_or_a_table_of_the_ui() -> None:
    rows = [
        CheckRow(
            "sample_set",
            "c",
            name,
            "failed",
            True,
            "2026-01-01T00:00:00+00:00",
            f"found {name}",
            f"{name}\n{MARKUP}",
            "r",
        )
        for name in NAMES
        if "\ud800" not in name
    ]
    plain = [replace(row, message="found", offenders="a\nb") for row in rows]
    page = render_check_page(rows)
    harmless = elements(render_check_page([replace(row, cell="v1") for row in plain]))
    assert set(elements(page)) == set(harmless), "other elements or attributes than without the names"
    assert elements(page)["script"] == harmless["script"]
    assert "img" not in elements(page)
    shown = table(("name",), [(name,) for name in NAMES])
    assert [record.data["name"] for record in shown.records] == NAMES


def test_text_of_a_protocol_on_disk_stays_text_in_the_leaderboards_page() -> None:
    from thesis_assets.reports.leaderboard_pages import _as_text

    for name in NAMES:
        text = _as_text(name)
        assert "<" not in text
        assert "](" not in text.replace("\\](", "")
        assert "\n" not in text
    assert _as_text("a\\](x)") == r"a\\\](x)", "a backslash of the file does not undo the one before the bracket"


def test_an_error_about_a_hostile_file_prints_without_control_characters(tmp_path: Path) -> None:
    platform = Platform(tiny_world(tmp_path).settings)
    for name in NAMES:
        with pytest.raises(ThesisAssetsError) as refused:
            platform.experiments.read(name)
        readable(str(refused.value))


def test_a_name_in_the_hubs_index_is_refused_before_the_card_is_drawn_from_it() -> None:
    """The index lies in a repo that others may write to; the card is Markdown that a browser shows."""
    from pydantic import ValidationError

    from thesis_assets.publishing.card import card
    from thesis_assets.schemas.recordings import PublicationIndex

    file = {
        **{
            "path": "v1/r1/input_data.rrd",
            "kind": "input_data",
            "exp_name": "v1",
            "run_name": "r1",
            "scene_name": "d_a",
        },
        **{
            "epoch": None,
            "bytes": 1,
            "sha256": "0",
            "input_digest": "0",
            "rerun_sdk": "0.41.0",
            "metrics": {"psnr": 1.0},
        },
        **{"datasets": ["hi4d"], "previews": ["v1/r1/a.png"]},
    }
    licences = {"hi4d": "see the dataset's page (non-commercial)"}
    plain = card(
        PublicationIndex.model_validate({"files": [file], "licences": licences}), "o/r", endpoint="h", private=True
    )
    drawn = 0
    for name in NAMES:
        for change in (
            {**file, "exp_name": name},
            {**file, "scene_name": name},
            {**file, "path": name},
            {**file, "rerun_sdk": name},
            {**file, "metrics": {name: 1.0}},
            {**file, "previews": [name]},
        ):
            try:
                index = PublicationIndex.model_validate({"files": [change], "licences": licences})
            except ValidationError:
                continue
            shown = card(index, "o/r", endpoint="h", private=True)
            assert elements(shown) == elements(plain), ascii(name)
            assert shown.count("](") <= plain.count("](")
            drawn += 1
        with suppress(ValidationError):
            index = PublicationIndex.model_validate({"files": [file], "licences": {"hi4d": name}})
            assert elements(card(index, "o/r", endpoint="h", private=True)) == elements(plain), ascii(name)
    assert drawn > 5
