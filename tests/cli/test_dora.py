"""Durations as people read them."""

import pytest

from deploylog.cli.dora import render_duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (2.216, "2.22s"),
        (59, "59s"),
        (60, "1m"),
        (90, "1m 30s"),
        (3_600, "1h"),
        (11_130, "3h 5m"),
        (86_400 * 2 + 4 * 3_600, "2d 4h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str):
    assert render_duration(seconds) == shown
