"""Whether the viewer can draw on this machine: tests that look at pictures skip where it cannot, and fail in CI."""

from functools import cache

import pytest

from thesis_assets_tests.services.required import absent


@cache
def _problem() -> str | None:
    from thesis_assets.recordings.previews import NoGraphics, headless_viewer

    try:
        with headless_viewer((320, 200)):
            return None
    except NoGraphics as error:
        return str(error)


def require_graphics() -> None:
    """Skip the test (or fail it, where `THESIS_ASSETS_REQUIRE_SERVICES` is 1) where nothing can be drawn."""
    problem = _problem()
    if problem is None:
        return
    pytest.skip(absent("a graphics driver", problem.splitlines()[0]))
