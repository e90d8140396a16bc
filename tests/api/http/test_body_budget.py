"""The budget of bodies: what is over it is refused, and what has ended no longer counts."""

import pytest

from deploylog.api.http.body_budget import SMALL, BodyBudget
from deploylog.errors import Overloaded

LIMIT = 8 * SMALL


def test_what_is_over_the_limit_is_refused_and_takes_nothing():
    budget = BodyBudget(LIMIT)

    with budget.share() as one, budget.share() as other:
        one.grow(4 * SMALL)
        with pytest.raises(Overloaded):
            other.grow(3 * SMALL)
        other.grow(2 * SMALL)

        assert budget.held == 6 * SMALL
    assert budget.held == 0


def test_a_body_that_is_alone_is_never_refused():
    budget = BodyBudget(LIMIT)

    with budget.share() as share:
        share.grow(LIMIT)
        share.grow(LIMIT)

        assert budget.held == 2 * LIMIT


def test_what_is_small_has_room_that_large_bodies_do_not_take():
    budget = BodyBudget(LIMIT)

    with budget.share() as large, budget.share() as small, budget.share() as late:
        large.grow(6 * SMALL)
        small.grow(SMALL)
        with pytest.raises(Overloaded):
            small.grow(1)
        late.grow(SMALL)
        with pytest.raises(Overloaded), budget.share() as last:
            last.grow(1)

        assert budget.held == LIMIT


def test_a_size_that_is_only_declared_is_held_by_nobody():
    budget = BodyBudget(LIMIT)

    with budget.share() as one, budget.share() as other:
        one.grow(SMALL)
        other.require(5 * SMALL)
        with pytest.raises(Overloaded):
            other.require(6 * SMALL)

        assert (other.size, budget.held) == (0, SMALL)
