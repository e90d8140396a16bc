"""Which deployments are to production."""

import pytest

from deploylog.deployments.production import parse_patterns

RULE = parse_patterns(" prod, *-prod , live-?")


@pytest.mark.parametrize(
    ("environment", "said", "expected"),
    [
        ("prod", None, True),
        ("PROD", None, True),
        ("eu-prod", None, True),
        ("live-1", None, True),
        ("live-12", None, False),
        ("production", None, False),
        (None, None, None),
        (None, True, True),
        ("prod", False, False),
        ("staging", True, True),
    ],
)
def test_a_deployment_is_to_production_as_it_says_or_as_its_environment_is_named(
    environment: str | None, said: bool | None, expected: bool | None
):
    assert RULE.applies(environment, said) is expected


def test_without_patterns_only_what_says_so_is_to_production():
    rule = parse_patterns("")

    assert rule.applies("prod", None) is False
    assert rule.applies("prod", True) is True
