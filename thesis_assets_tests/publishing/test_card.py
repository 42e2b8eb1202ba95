"""The card: what each recording is, how it is opened, and that a person's own words stay."""

from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from thesis_assets.errors import InvalidFile
from thesis_assets.publishing.card import BEGIN, END, MAX_WEB_BYTES, card, viewer_link
from thesis_assets.schemas.recordings import PublicationIndex, PublishedFile

REPO, ENDPOINT = "someone/recordings", "https://huggingface.co"


def file(name: str, *, epoch: int | None = None, n_bytes: int = 4_400_000, **changes: object) -> PublishedFile:
    values = {
        "path": f"demo/tiny_a/studio_pair03_dance/rerun/{name}.rrd",
        "kind": "input_data" if epoch is None else "evaluation",
        "exp_name": "demo",
        "run_name": "tiny_a",
        "scene_name": "studio_pair03_dance",
        "epoch": epoch,
        "bytes": n_bytes,
        "sha256": "0" * 64,
        "data_version": "1" * 64,
        "rerun_sdk": "0.41.0",
        "metrics": {} if epoch is None else {"psnr": 20.1 + epoch / 10},
        "datasets": ["studio"],
        "previews": [],
    }
    return PublishedFile.model_validate(values | changes)


INDEX = PublicationIndex(
    files=[
        file("evaluation_epoch_0030", epoch=30, previews=["a/b.png"]),
        file("evaluation_epoch_0000", epoch=0),
        file("input_data"),
    ],
    licences={"studio": "synthetic"},
)


def header_of(text: str) -> dict[str, object]:
    head = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(head, dict)
    return head


def test_a_public_card_links_each_recording_into_the_viewer_of_its_version() -> None:
    text = card(INDEX, REPO, endpoint=ENDPOINT, private=False)
    link = viewer_link(INDEX.files[0], REPO, ENDPOINT)
    assert link in text
    parts = urlsplit(link)
    assert (parts.netloc, parts.path) == ("app.rerun.io", "/version/0.41.0/index.html")
    assert parse_qs(parts.query)["url"] == [f"{ENDPOINT}/datasets/{REPO}/resolve/main/{INDEX.files[0].path}"]
    assert text.count("[in the browser]") == 3


def test_a_private_card_has_commands_and_no_viewer_link() -> None:
    text = card(INDEX, REPO, endpoint=ENDPOINT, private=True)
    assert "app.rerun.io" not in text
    assert f"hf download {REPO} --repo-type=dataset --local-dir recordings" in text
    assert f"rerun recordings/{INDEX.files[0].path}" in text


def test_a_card_has_licence_tags_sizes_numbers_pictures_and_the_sdks_version() -> None:
    text = card(INDEX, REPO, endpoint=ENDPOINT, private=True)
    header = header_of(text)
    assert header["license"] == "other"
    assert "rerun" in header["tags"]  # type: ignore[operator]
    assert "pip install rerun-sdk==0.41.0" in text
    assert "- `studio`: synthetic" in text
    assert "![evaluation_epoch_0030.rrd](a/b.png)" in text
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert [row.split(" | ")[1:4] for row in rows] == [
        ["", "4.4 MB", ""],
        ["0", "4.4 MB", "20.10"],
        ["30", "4.4 MB", "23.10"],
    ]


def test_a_recording_beyond_the_web_viewers_memory_has_no_link() -> None:
    index = PublicationIndex(files=[file("evaluation_epoch_0030", epoch=30, n_bytes=MAX_WEB_BYTES + 1)])
    text = card(index, REPO, endpoint=ENDPOINT, private=False)
    assert "too large for the web viewer" in text
    assert "app.rerun.io" not in text


def test_drawing_a_card_again_changes_nothing() -> None:
    first = card(INDEX, REPO, endpoint=ENDPOINT, private=True)
    assert card(INDEX, REPO, endpoint=ENDPOINT, private=True, existing=first) == first


@pytest.mark.parametrize(
    "own", ["# Mine\n\ntext\n", "---\nlicense: mit\n---\n# Mine\n\ntext\n", f"# Mine\n\ntext\n{BEGIN} broken"]
)
def test_a_persons_own_words_stay_around_the_drawn_part(own: str) -> None:
    first = card(INDEX, REPO, endpoint=ENDPOINT, private=True, existing=own)
    second = card(PublicationIndex(files=INDEX.files[:1]), REPO, endpoint=ENDPOINT, private=True, existing=first)
    for text in (first, second):
        assert "# Mine\n\ntext" in text
        assert text.count(END) == 1
    assert header_of(first)["license"] == ("mit" if "mit" in own else "other")


def test_a_header_that_is_no_mapping_is_not_overwritten() -> None:
    with pytest.raises(InvalidFile, match="mapping"):
        card(INDEX, REPO, endpoint=ENDPOINT, private=True, existing="---\n- a\n---\nx\n")
