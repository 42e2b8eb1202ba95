"""`skip_frames.csv`: frame numbers to leave out of everything."""

from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_bounded

MAX_SKIP_FRAMES_BYTES = 4 * 1024 * 1024


def read_skip_frames(path: Path) -> set[int]:
    """Frame numbers of one line, comma separated; spaces around a token, line breaks and a last comma do no harm.

    Raises:
        InvalidFile: too large, not text, or a token is not a frame number.
    """
    try:
        text = read_bounded(path, MAX_SKIP_FRAMES_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidFile("the file is not UTF-8 text", file=path, found=str(error)) from error
    numbers: set[int] = set()
    for token in text.replace("\n", ",").replace("\r", ",").split(","):
        word = token.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdigit() and len(word) <= 18):
            raise InvalidFile(
                "a token is not a frame number",
                file=path,
                found=ascii(word[:80]),
                wanted="numbers, comma separated, such as: 5, 12, 13, 27",
            )
        numbers.add(int(word))
    return numbers
