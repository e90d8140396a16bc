"""ParallelCluster's routes: the events of an image's stack, and of a cluster's."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.aws.parallelcluster import wire
from deploylog.api.aws.parallelcluster.errors import answer_options, json_response
from deploylog.api.aws.stacks.arn import Kind
from deploylog.api.context import ApiContext, Handler
from deploylog.errors import StackNotFound

PREFIXES = ("/v3/",)

IMAGE_EVENTS = "/v3/images/custom/{imageId}/stackevents"
CLUSTER_EVENTS = "/v3/clusters/{clusterName}/stackevents"

_UNKNOWN: dict[Kind, str] = {
    "image": "CloudFormation Stack for Image {id} does not exist.",
    "cluster": "Cluster '{id}' does not exist or belongs to an incompatible ParallelCluster major"
    " version.",
}


def routes(parts: ApiContext) -> list[tuple[str, str, Handler]]:
    """Method, path and endpoint of each route."""

    async def image(request: Request) -> Response:
        return await _list(request, parts, "image", request.path_params["imageId"])

    async def cluster(request: Request) -> Response:
        return await _list(request, parts, "cluster", request.path_params["clusterName"])

    async def options(request: Request) -> Response:
        return answer_options(request)

    return [
        ("GET", IMAGE_EVENTS, image),
        ("OPTIONS", IMAGE_EVENTS, options),
        ("GET", CLUSTER_EVENTS, cluster),
        ("OPTIONS", CLUSTER_EVENTS, options),
    ]


async def _list(request: Request, parts: ApiContext, kind: Kind, id: str) -> Response:
    principal = request.state.principal
    asked = wire.parse_request(
        id=id,
        query_string=request.scope["query_string"],
        regions=parts.parallelcluster_regions,
        default_region=parts.parallelcluster_region,
    )
    try:
        view = await parts.stack_views.by_name(principal, asked.id, kind, region=asked.region)
    except StackNotFound as error:
        raise StackNotFound(_UNKNOWN[kind].format(id=asked.id)) from error
    page = await parts.stack_views.page(principal, view, asked.next_token)
    raw = parts.parallelcluster_raw_statuses
    return json_response(request, wire.render_page(page.events, page.next_token, raw=raw))
