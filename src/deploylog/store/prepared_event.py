"""Prepared events: what of an append needs neither position nor connection."""

from collections.abc import Sequence

from deploylog.deployments.projection import project
from deploylog.events.event import NewEvent
from deploylog.events.index.terms import terms_of
from deploylog.store.admission import Candidate, digest_of_identity, identity_of
from deploylog.store.checksums import content_checksum
from deploylog.store.rows import Values, values_of


class PreparedEvent(Candidate, frozen=True, gc=False):
    """A candidate with its row.

    The thread that writes is the busiest one: what needs neither position nor connection is
    done before and after it.
    """

    values: Values
    #: The checksum of the values.
    checksum: int
    #: What the event is found by.
    terms: Sequence[str]


def prepare_event(event: NewEvent) -> PreparedEvent:
    """Prepare ``event``; raises InvalidEvent when the catalog cannot use it."""
    values = values_of(event)
    identity = identity_of(event)
    return PreparedEvent(
        event,
        identity,
        digest_of_identity(identity),
        project(event),
        values,
        content_checksum(values),
        terms_of(event),
    )
