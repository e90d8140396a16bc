"""The endpoints of the ParallelCluster API: the events of an image's stack, or a cluster's."""

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.aws.parallelcluster import wire
from deploylog.api.aws.parallelcluster.errors import answer_options, json_response
from deploylog.api.aws.parallelcluster.settings import ParallelClusterSettings
from deploylog.api.aws.stacks.arn import Kind
from deploylog.api.aws.stacks.stack_view import make_stack_views
from deploylog.api.context import ApiContext
from deploylog.api.settings import names_of
from deploylog.errors import StackNotFound

_UNKNOWN: dict[Kind, str] = {
    "image": "CloudFormation Stack for Image {id} does not exist.",
    "cluster": "Cluster '{id}' does not exist or belongs to an incompatible ParallelCluster major"
    " version.",
}


class StackEvents:
    """Answers for the stack events of images and clusters."""

    def __init__(self, context: ApiContext, settings: ParallelClusterSettings) -> None:
        self._views = make_stack_views(context, settings)
        self._regions = names_of(settings.parallelcluster_regions)
        self._region = settings.parallelcluster_region
        self._raw = settings.parallelcluster_raw_statuses

    async def of_image(self, request: Request) -> Response:
        """List the events of the stack that builds an image."""
        return await self._list(request, "image", request.path_params["imageId"])

    async def of_cluster(self, request: Request) -> Response:
        """List the events of a cluster's stack."""
        return await self._list(request, "cluster", request.path_params["clusterName"])

    async def options(self, request: Request) -> Response:
        """List the methods of a path."""
        return answer_options(request)

    async def _list(self, request: Request, kind: Kind, id: str) -> Response:
        principal = request.state.principal
        asked = wire.parse_request(
            id=id,
            query_string=request.scope["query_string"],
            regions=self._regions,
            default_region=self._region,
        )
        try:
            view = await self._views.by_name(principal, asked.id, kind, region=asked.region)
        except StackNotFound as error:
            raise StackNotFound(_UNKNOWN[kind].format(id=asked.id)) from error
        page = await self._views.page(principal, view, asked.next_token)
        return json_response(request, wire.render_page(page.events, page.next_token, raw=self._raw))
