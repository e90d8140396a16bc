"""Where the tests find what they read."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
SAMPLES = TESTS / "samples"
FIXTURES = TESTS / "fixtures"
