"""A directory in the making: what is linked into it belongs to others."""

from pathlib import Path

from thesis_assets.evaluation.outputs import staged


def test_a_linked_file_that_is_written_anew_leaves_its_source_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    source.mkdir()
    (source / "record.json").write_bytes(b"theirs")
    with staged(tmp_path / "ours") as (stage,):
        stage.link_all(source)
        stage.write(tmp_path / "ours" / "record.json", b"ours")
        stage.publish()
    assert (source / "record.json").read_bytes() == b"theirs"
    assert (tmp_path / "ours" / "record.json").read_bytes() == b"ours"
