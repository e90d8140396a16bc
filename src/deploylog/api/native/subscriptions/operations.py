"""The operations on subscriptions."""

from deploylog.api.api import Resource
from deploylog.api.native import paths
from deploylog.api.native.query_string import DEFAULT_LIMIT, MAX_LIMIT
from deploylog.api.native.subscriptions.endpoints import Subscriptions
from deploylog.api.native.subscriptions.wire import (
    AttemptBody,
    AttemptPage,
    ChangeBody,
    DeadLetterPage,
    NewBody,
    RedeliverBody,
    Redelivered,
    RotateBody,
    SubscriptionBody,
    SubscriptionList,
)
from deploylog.api.operation import (
    Body,
    Endpoint,
    Operation,
    Parameter,
    path_parameter,
    whole_number,
)

_ALL = paths.SUBSCRIPTIONS
_ONE = f"{_ALL}/{{id}}"

_ID = path_parameter("id", "The subscription's id.")

_LIMIT = Parameter(
    name="limit", help="Most to answer.", schema=whole_number(1, MAX_LIMIT, DEFAULT_LIMIT)
)

_SUBSCRIPTION = Body(help="The subscription.", type=SubscriptionBody)


def _operation(
    id: str,
    method: str,
    path: str,
    endpoint: Endpoint[Subscriptions],
    summary: str,
    *,
    answer: Body = _SUBSCRIPTION,
    request: tuple[Body, ...] = (),
    parameters: tuple[Parameter, ...] = (),
) -> Operation[Subscriptions]:
    return Operation(
        id=id,
        method=method,
        path=path,
        endpoint=endpoint,
        summary=summary,
        tag="subscriptions",
        parameters=(*((_ID,) if "{id}" in path else ()), *parameters),
        request=request,
        answers=(answer,),
    )


SUBSCRIPTIONS = Resource(
    endpoints=Subscriptions,
    operations=(
        _operation(
            "createSubscription",
            "POST",
            _ALL,
            Subscriptions.create,
            "Subscribe; a secret that is drawn is told here only",
            request=(Body(type=NewBody),),
            answer=Body(help="The subscription.", status=201, type=SubscriptionBody),
        ),
        _operation(
            "listSubscriptions",
            "GET",
            _ALL,
            Subscriptions.list,
            "List subscriptions",
            answer=Body(help="One's own, and those administered.", type=SubscriptionList),
        ),
        _operation("getSubscription", "GET", _ONE, Subscriptions.get, "Get one subscription"),
        _operation(
            "changeSubscription",
            "PATCH",
            _ONE,
            Subscriptions.change,
            "Change one's subscription",
            request=(Body(help="What is to be different.", type=ChangeBody),),
        ),
        _operation(
            "deleteSubscription",
            "DELETE",
            _ONE,
            Subscriptions.delete,
            "Forget a subscription, and what became of its deliveries",
            answer=Body(help="Done.", status=204, media=""),
        ),
        _operation(
            "pauseSubscription",
            "POST",
            f"{_ONE}/pause",
            Subscriptions.pause,
            "Let a subscription wait",
        ),
        _operation(
            "resumeSubscription",
            "POST",
            f"{_ONE}/resume",
            Subscriptions.resume,
            "Let a subscription go on",
        ),
        _operation(
            "rotateSecret",
            "POST",
            f"{_ONE}/rotate-secret",
            Subscriptions.rotate_secret,
            "Sign with another secret, and for a while with the former ones, too",
            request=(Body(help="May be left out.", type=RotateBody),),
        ),
        _operation(
            "testSubscription",
            "POST",
            f"{_ONE}/test",
            Subscriptions.test,
            "Deliver an event that is none, at once",
            answer=Body(help="What came of it.", type=AttemptBody),
        ),
        _operation(
            "redeliver",
            "POST",
            f"{_ONE}/redeliver",
            Subscriptions.redeliver,
            "Send an event again, or all that were given up since a time",
            request=(Body(type=RedeliverBody),),
            answer=Body(help="How many.", status=202, type=Redelivered),
        ),
        _operation(
            "listAttempts",
            "GET",
            f"{_ONE}/attempts",
            Subscriptions.attempts,
            "List what became of deliveries, newest first",
            parameters=(
                Parameter(
                    name="before", help="Where the next page goes on: the former one's next."
                ),
                _LIMIT,
            ),
            answer=Body(help="A page of attempts.", type=AttemptPage),
        ),
        _operation(
            "listParked",
            "GET",
            f"{_ONE}/dead-letters",
            Subscriptions.dead_letters,
            "List events that were given up, in the order of the log",
            parameters=(
                Parameter(name="after", help="Only events after this position."),
                _LIMIT,
            ),
            answer=Body(help="A page of events.", type=DeadLetterPage),
        ),
    ),
)
