"""The budget of bodies: what is over it is refused, and what has ended no longer counts."""

import pytest

from deploylog.api.http.body_budget import BodyBudget
from deploylog.errors import Overloaded


def test_what_is_over_the_limit_is_refused_and_takes_nothing():
    budget = BodyBudget(100)

    with budget.share() as one, budget.share() as other:
        one.grow_to(60)
        with pytest.raises(Overloaded):
            other.grow_to(41)
        other.grow_to(40)

        assert budget.held == 100
    assert budget.held == 0


def test_a_body_that_is_alone_is_never_refused():
    budget = BodyBudget(100)

    with budget.share() as share:
        share.grow_to(90)
        share.grow(90)

        assert budget.held == 180


def test_a_declared_size_is_not_counted_again_as_it_arrives():
    budget = BodyBudget(100)

    with budget.share() as share:
        share.grow_to(50)
        share.grow_to(10)
        share.grow(5)

        assert budget.held == share.size == 55
