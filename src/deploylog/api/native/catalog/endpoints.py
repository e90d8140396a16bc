"""The endpoints of the catalog: parse, call the service, render."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.http.exchange import json_response, query_of
from deploylog.api.native import query_string
from deploylog.api.native.catalog import wire
from deploylog.api.native.paths import CHANGESETS
from deploylog.api.native.settings import NativeSettings
from deploylog.api.native.wire import parse_request_key
from deploylog.deployments.details import decode_named
from deploylog.deployments.service import NewDeployment
from deploylog.deployments.staging import NewChangeset
from deploylog.errors import InvalidInput
from deploylog.events.access import ANONYMOUS, Principal
from deploylog.ingest.terraform.plan import parse_plan


class Catalog:
    """Answers for projects and stacks."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._deployments = context.deployments

    async def projects(self, request: Request) -> Response:
        """List projects."""
        query_string.Parameters(query_of(request)).done()
        projects = await self._deployments.projects(request.state.principal)
        return json_response(wire.ProjectList(projects))

    async def stacks(self, request: Request) -> Response:
        """List stacks."""
        parameters = query_string.Parameters(query_of(request))
        project = parameters.one("project")
        deleted = parameters.choice("deleted", ("false", "true")) == "true"
        parameters.done()
        stacks = await self._deployments.stacks(
            request.state.principal, project=project, deleted=deleted
        )
        return json_response(wire.StackList([wire.render_stack(stack) for stack in stacks]))

    async def delete_stack(self, request: Request) -> Response:
        """Free a stack's name."""
        parameters = query_string.Parameters(query_of(request))
        project, name = parameters.required("project"), parameters.required("name")
        parameters.done()
        await self._deployments.delete_stack(request.state.principal, project, name)
        return Response(status_code=204)


class Deployments:
    """Answers for deployments."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._deployments = context.deployments
        self._clock = context.clock
        self._limits = context.limits.at_most(DOCUMENT_BYTES)

    async def open(self, request: Request) -> Response:
        """Open a deployment."""
        request.state.principal.require_anywhere("write")
        body = await read_body(request, self._limits)
        try:
            new = decode_named(body, NewDeployment)
        except InvalidInput as error:
            raise InvalidInput(f"not a deployment: {error.message}", field=error.field) from error
        deployment = await self._deployments.open_deployment(request.state.principal, new)
        return json_response(wire.render_deployment(deployment), status=201)

    async def list(self, request: Request) -> Response:
        """List deployments."""
        parameters = query_string.Parameters(query_of(request))
        names = query_string.parse_names(parameters)
        plans = query_string.check_filter_values("plan", parameters.all("plan"))
        since = query_string.parse_since(parameters, now=self._clock())
        current = parameters.choice("current", ("false", "true")) == "true"
        before, limit = parameters.one("before"), query_string.parse_limit(parameters)
        parameters.done()
        deployments = await self._deployments.deployments(
            request.state.principal,
            names=msgspec.structs.replace(names, plans=plans),
            since=since,
            current=current,
            before=before,
            limit=limit,
        )
        return json_response(wire.render_deployments(deployments, limit=limit))

    async def get(self, request: Request) -> Response:
        """Get a deployment."""
        principal, id = request.state.principal, request.path_params["id"]
        return json_response(
            wire.render_deployment(await self._deployments.deployment(principal, id))
        )

    async def wait(self, request: Request) -> Response:
        """Wait until a deployment finishes."""
        parameters = query_string.Parameters(query_of(request))
        timeout = parameters.integer(
            "timeout", default=60, low=0, high=query_string.MAX_WAIT_SECONDS
        )
        parameters.done()
        deployment = await self._deployments.wait(
            request.state.principal, request.path_params["id"], timeout=timeout
        )
        return json_response(wire.render_deployment(deployment))


class Changesets:
    """Answers for change sets."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._staging = context.staging
        self._limits = context.limits

    async def stage(self, request: Request) -> Response:
        """Stage a plan."""
        principal = request.state.principal
        principal.require_anywhere("write")
        new = _new_changeset(query_string.Parameters(query_of(request)), principal)
        await self._staging.check(principal, new)
        body = await read_body(request, self._limits)
        key = parse_request_key(request.headers, principal, query_of(request), body)
        # A large plan takes seconds; in a thread it does not block other requests.
        changes = await asyncio.to_thread(parse_plan, body)
        changeset = await self._staging.stage(principal, new, changes, request=key)
        base = request.scope.get("base_path", "")
        headers = {"location": f"{base}{CHANGESETS}/{changeset.id}"}
        return json_response(wire.render_changeset(changeset), status=202, headers=headers)

    async def list(self, request: Request) -> Response:
        """List change sets."""
        parameters = query_string.Parameters(query_of(request))
        project, stack = parameters.one("project"), parameters.one("stack")
        before, limit = parameters.one("before"), query_string.parse_limit(parameters)
        parameters.done()
        changesets = await self._staging.changesets(
            request.state.principal, project=project, stack=stack, before=before, limit=limit
        )
        return json_response(wire.render_changesets(changesets, limit=limit))

    async def get(self, request: Request) -> Response:
        """Get a change set."""
        changeset = await self._staging.changeset(
            request.state.principal, request.path_params["id"]
        )
        return json_response(wire.render_changeset(changeset))

    async def changes(self, request: Request) -> Response:
        """Get the changes of a change set."""
        return json_response(
            await self._staging.changes(request.state.principal, request.path_params["id"])
        )


def _new_changeset(parameters: query_string.Parameters, principal: Principal) -> NewChangeset:
    new = NewChangeset(
        project=parameters.required("project"),
        stack=parameters.one("stack"),
        id=parameters.one("id"),
        location=parameters.one("location") or "",
        destroy=parameters.choice("destroy", ("false", "true")) == "true",
        actor=parameters.one("actor") or (None if principal == ANONYMOUS else principal.name),
        groups=parameters.all("group"),
    )
    parameters.done()
    return new
