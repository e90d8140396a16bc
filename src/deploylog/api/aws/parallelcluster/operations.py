"""ParallelCluster's two operations, described."""

from typing import Any, TypedDict

from deploylog.api.aws.parallelcluster.routes import CLUSTER_EVENTS, IMAGE_EVENTS
from deploylog.api.aws.parallelcluster.wire import StackEventsPage
from deploylog.api.operation import Body, Operation, Parameter, path_parameter


class ParallelClusterError(TypedDict, total=False):
    """What went wrong; API Gateway spells it with a capital letter when access is denied."""

    message: str
    Message: str


_ERROR = Body(help="message.", type=ParallelClusterError)


def _operation(id: str, path: str, summary: str, name: Parameter) -> Operation[Any]:
    return Operation(
        id=id,
        method="GET",
        path=path,
        summary=summary,
        tag="parallelcluster",
        parameters=(
            name,
            Parameter(name="region", help="The region, of those that are supported."),
            Parameter(name="nextToken", help="Where the page begins, from the page before."),
        ),
        answers=(Body(help="A page of events, newest first.", type=StackEventsPage),),
        error=_ERROR,
    )


def _options(id: str, path: str, name: Parameter) -> Operation[Any]:
    return Operation(
        id=id,
        method="OPTIONS",
        path=path,
        summary="Say what the path allows",
        tag="parallelcluster",
        parameters=(name,),
        answers=(Body(help="The header Allow.", media=""),),
        error=_ERROR,
    )


_IMAGE = path_parameter("imageId", "The id of the image.")
_CLUSTER = path_parameter("clusterName", "The name of the cluster.")

OPERATIONS: tuple[Operation[Any], ...] = (
    _operation(
        "getImageStackEvents",
        IMAGE_EVENTS,
        "List the events of the stack that builds an image",
        _IMAGE,
    ),
    _options("optionsOfImageStackEvents", IMAGE_EVENTS, _IMAGE),
    _operation(
        "getClusterStackEvents",
        CLUSTER_EVENTS,
        "List the events of a cluster's stack",
        _CLUSTER,
    ),
    _options("optionsOfClusterStackEvents", CLUSTER_EVENTS, _CLUSTER),
)
