"""Errors say what, where, found, wanted and what to do, also after a trip through another process."""

import pickle
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets import errors
from thesis_assets.errors import ThesisAssetsError, pip_install

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ThesisAssetsError)]
TEXT = st.none() | st.text()


def test_what_is_to_be_installed_goes_into_the_environment_that_asks_for_it() -> None:
    assert pip_install("smplx") == f"{shlex.quote(sys.executable)} -m pip install smplx"


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_has_every_part_that_was_given(kind: type[ThesisAssetsError]) -> None:
    error = kind("it is wrong", file="a.yaml:3", key="split.seed", found=-1, wanted="0 or more", remedy="write another")

    assert str(error).splitlines() == [
        "it is wrong",
        "  file: a.yaml:3",
        "  key: split.seed",
        "  found: -1",
        "  wanted: 0 or more",
        "  remedy: write another",
    ]


def test_parts_that_were_not_given_are_not_in_the_message() -> None:
    assert str(ThesisAssetsError("it is wrong", found=0)) == "it is wrong\n  found: 0"


@given(
    kind=st.sampled_from(KINDS),
    problem=st.text(),
    parts=st.fixed_dictionaries(
        {"file": TEXT, "key": TEXT, "found": TEXT | st.integers(), "wanted": TEXT | st.integers(), "remedy": TEXT}
    ),
)
def test_an_error_comes_back_from_a_worker_process_as_it_was(
    kind: type[ThesisAssetsError], problem: str, parts: dict[str, object]
) -> None:
    error = kind(problem, **parts)  # type: ignore[arg-type]

    returned = pickle.loads(pickle.dumps(error))

    assert type(returned) is kind
    assert str(returned) == str(error)
    assert vars(returned) == vars(error)
