"""The operations on subscriptions."""

from deploylog.api.api import Resource
from deploylog.api.native import paths
from deploylog.api.native.parameters import LIMIT
from deploylog.api.native.subscriptions.endpoints import Subscriptions
from deploylog.api.native.subscriptions.summaries import DeliverySummaryList
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
)

_ALL = paths.SUBSCRIPTIONS
_ONE = f"{_ALL}/{{id}}"

_ID = path_parameter("id", "The subscription's id or name.")

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
            "Create a subscription; a generated secret is returned only here",
            request=(Body(type=NewBody),),
            answer=Body(help="The subscription.", status=201, type=SubscriptionBody),
        ),
        _operation(
            "listSubscriptions",
            "GET",
            _ALL,
            Subscriptions.list,
            "List subscriptions",
            answer=Body(
                help="The caller's subscriptions, and those that it administers.",
                type=SubscriptionList,
            ),
        ),
        _operation("getSubscription", "GET", _ONE, Subscriptions.get, "Get one subscription"),
        _operation(
            "changeSubscription",
            "PATCH",
            _ONE,
            Subscriptions.change,
            "Update a subscription",
            request=(Body(help="The fields to change.", type=ChangeBody),),
        ),
        _operation(
            "deleteSubscription",
            "DELETE",
            _ONE,
            Subscriptions.delete,
            "Delete a subscription and its delivery attempts",
            answer=Body(help="Done.", status=204, media=""),
        ),
        _operation(
            "pauseSubscription",
            "POST",
            f"{_ONE}/pause",
            Subscriptions.pause,
            "Pause a subscription",
        ),
        _operation(
            "resumeSubscription",
            "POST",
            f"{_ONE}/resume",
            Subscriptions.resume,
            "Resume a subscription",
        ),
        _operation(
            "rotateSecret",
            "POST",
            f"{_ONE}/rotate-secret",
            Subscriptions.rotate_secret,
            "Rotate the signing secret; former secrets also sign during the overlap",
            request=(Body(help="Optional.", type=RotateBody),),
        ),
        _operation(
            "testSubscription",
            "POST",
            f"{_ONE}/test",
            Subscriptions.test,
            "Send a test event now",
            answer=Body(help="The delivery attempt.", type=AttemptBody),
        ),
        _operation(
            "redeliver",
            "POST",
            f"{_ONE}/redeliver",
            Subscriptions.redeliver,
            "Redeliver an event, or all dead-lettered events since a time",
            request=(Body(type=RedeliverBody),),
            answer=Body(help="The number of events.", status=202, type=Redelivered),
        ),
        _operation(
            "listAttempts",
            "GET",
            f"{_ONE}/attempts",
            Subscriptions.attempts,
            "List delivery attempts, newest first",
            parameters=(
                Parameter(name="before", help="The cursor of the page: next of the previous page."),
                LIMIT,
            ),
            answer=Body(help="A page of attempts.", type=AttemptPage),
        ),
        _operation(
            "listParked",
            "GET",
            f"{_ONE}/dead-letters",
            Subscriptions.dead_letters,
            "List dead-lettered events, in the order of the log",
            parameters=(
                Parameter(name="after", help="Only events after this position."),
                LIMIT,
            ),
            answer=Body(help="A page of events.", type=DeadLetterPage),
        ),
        Operation(
            id="listDeliveries",
            method="GET",
            path=f"{paths.DEPLOYMENTS}/{{id}}/deliveries",
            endpoint=Subscriptions.deliveries,
            summary="List what subscriptions were sent of a deployment",
            tag="subscriptions",
            parameters=(path_parameter("id", "The deployment's id."),),
            answers=(
                Body(
                    help="Those of the subscriptions that the caller sees which were sent events.",
                    type=DeliverySummaryList,
                ),
            ),
        ),
    ),
)
