"""Rehearsals: one made-up event is sent, so that whoever set a subscription up sees whether it
arrives.
"""

import time
from collections.abc import Callable
from uuid import uuid4

from deploylog.events.event import SOURCE, Event, NewEvent, recorded_event
from deploylog.events.scope import scope
from deploylog.subscriptions.delivery.attempt import Try
from deploylog.subscriptions.delivery.lanes import QueuedBatch, QueuedEvent
from deploylog.subscriptions.delivery.sender import Context
from deploylog.subscriptions.delivery.worker import DeliveryJob
from deploylog.subscriptions.subscription import Attempt, Subscription


async def send_test_event(
    errand: DeliveryJob, *, clock: Callable[[], int] = time.time_ns
) -> Attempt:
    """Send an event of the type ``subscription.test``; what came of it. It is not recorded, and its
    id is no cursor. ``clock`` gives ns.
    """
    began = clock()
    event = _test_event(errand.subscription, began)
    verdict = await errand.sender.send(
        errand.subscription, errand.target, errand.secrets, [event], context=Context(now=began)
    )
    parcel = QueuedBatch("", (QueuedEvent(event=event),))
    tried = Try(parcel=parcel, verdict=verdict, began=began, ended=clock())
    [attempt] = tried.attempts("delivered" if verdict.result == "delivered" else "failed", None)
    return attempt


def _test_event(subscription: Subscription, now: int) -> Event:
    new = NewEvent(
        type="subscription.test",
        source=SOURCE,
        scopes=(scope("subscription", subscription.id),),
        time=now,
        subject=subscription.name,
        message=f"Test of subscription {subscription.name}",
    )
    return recorded_event(new, position=0, id=f"test-{uuid4()}", recorded=now)
