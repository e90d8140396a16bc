"""Open streams: how many a principal may have, and how they are closed."""

import msgspec
import pytest

from deploylog.errors import TooMany
from deploylog.events.access import ALL, ANONYMOUS, Principal
from deploylog.events.hub import Hub
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT
from deploylog.events.store import Query
from deploylog.events.streams import RETRY_SECONDS, OpenStreams

ANN, BOB = Principal(name="ann", id="1"), Principal(name="bob", id="2")

EVERYTHING = StreamFilter(scope=ROOT, filter=Query().filter, visibility=ALL)


def test_the_streams_of_each_principal_are_limited(hub: Hub):
    open_streams = OpenStreams(max_per_principal=2)

    with (
        hub.reader(EVERYTHING, after=0) as one,
        hub.reader(EVERYTHING, after=0) as two,
        hub.reader(EVERYTHING, after=0) as three,
    ):
        with open_streams.track(ANN, one), open_streams.track(ANN, two):
            with open_streams.track(BOB, three):
                pass
            with pytest.raises(TooMany) as raised, open_streams.track(ANN, three):
                pass
        with open_streams.track(ANN, one):
            pass

    assert raised.value.retry_after == RETRY_SECONDS
    assert open_streams.principals == set()


async def test_a_new_token_allows_no_more_streams(hub: Hub):
    open_streams = OpenStreams(max_per_principal=1)
    renewed = msgspec.structs.replace(ANN, expires=1)

    with (
        hub.reader(EVERYTHING, after=0) as one,
        hub.reader(EVERYTHING, after=0) as two,
        open_streams.track(ANN, one),
    ):
        with pytest.raises(TooMany), open_streams.track(renewed, two):
            pass

        assert open_streams.principals == {ANN}


async def test_closing_closes_the_streams_of_that_principal_only(hub: Hub):
    open_streams = OpenStreams(max_per_principal=2)

    with (
        hub.reader(EVERYTHING, after=0) as ann,
        hub.reader(EVERYTHING, after=0) as bob,
        open_streams.track(ANN, ann),
        open_streams.track(BOB, bob),
    ):
        assert open_streams.principals == {ANN, BOB}
        open_streams.close(ANN)

        assert await ann.next() is None
        assert not bob._closed


def test_closing_the_streams_of_a_principal_without_any_does_nothing(hub: Hub):
    open_streams = OpenStreams(max_per_principal=2)

    open_streams.close(ANONYMOUS)

    assert open_streams.principals == set()
