"""The operations of the ParallelCluster API."""

from typing import TypedDict

from deploylog.api.api import Resource
from deploylog.api.aws.parallelcluster.endpoints import StackEvents
from deploylog.api.aws.parallelcluster.wire import StackEventsPage
from deploylog.api.operation import Body, Endpoint, Operation, Parameter, path_parameter


class ParallelClusterError(TypedDict, total=False):
    """The error. API Gateway spells the field with a capital letter when access is denied."""

    message: str
    Message: str


ERROR = Body(help="The error message.", type=ParallelClusterError)

_IMAGE_EVENTS = "/v3/images/custom/{imageId}/stackevents"
_CLUSTER_EVENTS = "/v3/clusters/{clusterName}/stackevents"

_IMAGE = path_parameter("imageId", "The id of the image.")
_CLUSTER = path_parameter("clusterName", "The name of the cluster.")


def _list(
    id: str, path: str, endpoint: Endpoint[StackEvents], summary: str, name: Parameter
) -> Operation[StackEvents]:
    return Operation(
        id=id,
        method="GET",
        path=path,
        endpoint=endpoint,
        summary=summary,
        tag="parallelcluster",
        parameters=(
            name,
            Parameter(name="region", help="A supported region."),
            Parameter(name="nextToken", help="The token of the page, from the previous page."),
        ),
        answers=(Body(help="A page of events, newest first.", type=StackEventsPage),),
    )


def _options(id: str, path: str, name: Parameter) -> Operation[StackEvents]:
    return Operation(
        id=id,
        method="OPTIONS",
        path=path,
        endpoint=StackEvents.options,
        summary="List the allowed methods",
        tag="parallelcluster",
        parameters=(name,),
        answers=(Body(help="The Allow header.", media=""),),
    )


STACK_EVENTS = Resource(
    endpoints=StackEvents,
    operations=(
        _list(
            "getImageStackEvents",
            _IMAGE_EVENTS,
            StackEvents.of_image,
            "List the stack events of an image build",
            _IMAGE,
        ),
        _options("optionsOfImageStackEvents", _IMAGE_EVENTS, _IMAGE),
        _list(
            "getClusterStackEvents",
            _CLUSTER_EVENTS,
            StackEvents.of_cluster,
            "List the stack events of a cluster",
            _CLUSTER,
        ),
        _options("optionsOfClusterStackEvents", _CLUSTER_EVENTS, _CLUSTER),
    ),
)
