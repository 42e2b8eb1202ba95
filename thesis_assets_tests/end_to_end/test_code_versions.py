"""A step that makes something else of the same inputs has another code version: else older outputs pass for new ones."""

import json

import pytest

from thesis_assets_tests.goldens import GOLDENS, golden_outputs
from thesis_assets_tests.worlds import World

KNOWN = json.loads(GOLDENS.read_text())


@pytest.mark.parametrize("asset", KNOWN)
def test_a_golden_output_changes_only_with_its_code_version(finished_world: World, asset: str) -> None:
    found, known = golden_outputs(finished_world)[asset], KNOWN[asset]
    if found["code_version"] != known["code_version"]:
        pytest.fail(f"{asset} has a new code version: write its goldens, `python -m thesis_assets_tests.goldens`")
    for name, value in known["values"].items():
        now = found["values"].get(name)
        same = now == pytest.approx(value, abs=2e-3, nan_ok=True) if isinstance(value, float) else now == value
        assert same, f"{asset} now makes {name} = {now}, and made {value}: raise its code version"


def test_every_step_with_numbers_or_pixels_has_its_goldens(finished_world: World) -> None:
    assert set(golden_outputs(finished_world)) == set(KNOWN)
