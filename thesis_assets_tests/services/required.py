"""What a test says where a service that it needs is not there: skipped, or failed where services are required."""

import os

import pytest


def absent(service: str, reason: str) -> str:
    """The reason to skip with; fails where `THESIS_ASSETS_REQUIRE_SERVICES=1`."""
    text = f"{service} is not here: {reason} (scripts/install_system_packages.sh installs it)"
    if os.environ.get("THESIS_ASSETS_REQUIRE_SERVICES") == "1":
        pytest.fail(text)
    return text
