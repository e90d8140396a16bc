"""Test events: one synthetic event shows a user whether deliveries arrive."""

import time
from collections.abc import Callable
from uuid import uuid4

from deploylog.events.event import SOURCE, Event, NewEvent, recorded_event
from deploylog.events.scope import scope
from deploylog.subscriptions.delivery.attempt import SentBatch
from deploylog.subscriptions.delivery.job import DeliveryJob
from deploylog.subscriptions.delivery.lanes import QueuedBatch, QueuedEvent
from deploylog.subscriptions.delivery.sender import OutgoingBatch
from deploylog.subscriptions.subscription import Attempt, Subscription


async def send_test_event(job: DeliveryJob, *, clock: Callable[[], int] = time.time_ns) -> Attempt:
    """Send an event of the type ``subscription.test``; ``clock`` returns ns.

    Neither the event nor the attempt is recorded, and the event's id is no cursor.
    """
    started = clock()
    event = _test_event(job.subscription, started)
    outcome = await job.sender.send(
        OutgoingBatch(
            subscription=job.subscription,
            endpoint=job.endpoint,
            secrets=job.secrets,
            events=(event,),
            now=started,
        )
    )
    batch = QueuedBatch("", (QueuedEvent(event=event),))
    sent = SentBatch(batch=batch, outcome=outcome, started=started, finished=clock())
    [attempt] = sent.attempts("delivered" if outcome.result == "delivered" else "failed", None)
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
