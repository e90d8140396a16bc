"""The endpoints of the CloudFormation API: every action is a form posted to the root."""

import uuid
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.aws.cloudformation import wire
from deploylog.api.aws.cloudformation.errors import QueryError, redirect_to_docs, xml_response
from deploylog.api.aws.cloudformation.xml import Value, render_result
from deploylog.api.aws.stacks.arn import KINDS, parse_arn
from deploylog.api.aws.stacks.description import Description, describe
from deploylog.api.aws.stacks.settings import StackSettings
from deploylog.api.aws.stacks.stack_view import PAGE, StackView, make_stack_views
from deploylog.api.context import ApiContext
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.deployments.catalog import Stack
from deploylog.errors import StackNotFound
from deploylog.events.access import Principal

_Action = Callable[[Principal, wire.Call], Awaitable[dict[str, Value]]]

_PLACE_BYTES = 8

#: Stacks looked at for one answer. Where so many have other statuses, its page is short.
_MOST = 500


def is_bare(request: Request) -> bool:
    """Whether the request names no action: a browser opened the address."""
    return not wire.has_action(request.scope["query_string"])


class Actions:
    """The actions of the Query API."""

    def __init__(self, context: ApiContext, settings: StackSettings) -> None:
        self._limits = context.limits.at_most(DOCUMENT_BYTES)
        self._views = make_stack_views(context, settings)
        self._version = settings.parallelcluster_version
        self._actions: dict[str, _Action] = {
            "DescribeChangeSet": self._change_set,
            "DescribeEvents": self._operation_events,
            "DescribeStackEvents": self._events,
            "DescribeStackResource": self._resource,
            "DescribeStackResources": self._resources,
            "DescribeStacks": self._stacks,
            "GetStackPolicy": self._policy,
            "GetTemplate": self._template,
            "GetTemplateSummary": self._template,
            "ListChangeSets": self._change_sets,
            "ListExports": self._exports,
            "ListImports": self._imports,
            "ListStackResources": self._resource_summaries,
            "ListStacks": self._list,
        }

    async def post(self, request: Request) -> Response:
        """Run the action in the form, or in the query string of a request without a form."""
        form = await read_body(request, self._limits)
        return await self._answer(request, form or request.scope["query_string"])

    async def get(self, request: Request) -> Response:
        """Run the action in the query string; without one, redirect to the documentation."""
        if is_bare(request):
            return redirect_to_docs(request)
        return await self._answer(request, request.scope["query_string"])

    async def _answer(self, request: Request, form: bytes) -> Response:
        call = wire.parse_call(form)
        action = self._actions.get(call.action)
        if action is None:
            raise wire.unknown_action(call.action)
        result = await action(request.state.principal, call)
        id = str(uuid.uuid4())
        return xml_response(render_result(call.action, result, id), id)

    async def _events(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        token, name = call.next_token, call.require("StackName")
        view = await self._found(principal, name, f"Stack [{name}] does not exist")
        page = await self._views.page(principal, view, token)
        return {
            "StackEvents": [wire.render_event(event) for event in page.events],
            "NextToken": page.next_token,
        }

    async def _resource(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        name, logical_id = call.require("StackName"), call.require("LogicalResourceId")
        view = await self._found(principal, name, f"Stack '{name}' does not exist")
        event = await self._views.newest_of(
            principal,
            view,
            lambda event: event.logical_resource_id == logical_id and not event.is_stack_itself,
        )
        if event is None:
            message = f"Resource {logical_id} does not exist for stack {name}"
            raise QueryError("ValidationError", message)
        return {"StackResourceDetail": wire.render_resource(event)}

    async def _operation_events(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        token, failed = call.next_token, call.only_failed
        if "ChangeSetName" in call.parameters:
            raise wire.no_change_set(call.require("ChangeSetName"))
        view = await self._stack(principal, call)
        page = await self._views.page(principal, view, token)
        operation = call.parameters.get("OperationId")
        shown = [
            wire.render_operation_event(event)
            for event in page.events
            if operation in (None, event.client_request_token)
            and (not failed or event.resource_status.endswith("_FAILED"))
        ]
        return {"OperationEvents": shown, "NextToken": page.next_token}

    async def _resources(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        if "StackName" not in call.parameters:
            # Which stack has it, no index tells.
            physical_id = call.require("PhysicalResourceId")
            raise QueryError("ValidationError", f"Stack for {physical_id} does not exist")
        view = await self._stack(principal, call)
        found = await self._views.resources(principal, view)
        logical_id = call.parameters.get("LogicalResourceId")
        shown = [each for each in found if logical_id in (None, each.logical_resource_id)]
        if logical_id is not None and not shown:
            message = f"Resource {logical_id} does not exist for stack {call.require('StackName')}"
            raise QueryError("ValidationError", message)
        return {"StackResources": [wire.render_stack_resource(each) for each in shown[:PAGE]]}

    async def _resource_summaries(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        token = call.next_token
        view = await self._stack(principal, call)
        of = f"resources of {view.arn}"
        start = self._views.tokens.parse(of, token).decode() if token is not None else ""
        found = await self._views.resources(principal, view)
        left = [each for each in found if each.logical_resource_id > start]
        page = left[:PAGE]
        following = None
        if len(left) > len(page):
            following = self._views.tokens.render(of, page[-1].logical_resource_id.encode())
        return {
            "StackResourceSummaries": [wire.render_resource_summary(each) for each in page],
            "NextToken": following,
        }

    async def _template(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        """No template is ever recorded: say so, and not that there is no such action."""
        if "ChangeSetName" in call.parameters:
            raise wire.no_change_set(call.require("ChangeSetName"))
        await self._stack(principal, call)
        name = call.require("StackName")
        raise QueryError("ValidationError", f"Template is not available for stack {name}")

    async def _policy(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        await self._stack(principal, call)
        return {}

    async def _change_sets(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        await self._stack(principal, call)
        return {"Summaries": []}

    async def _change_set(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        name = call.require("ChangeSetName")
        if "StackName" in call.parameters:
            await self._stack(principal, call)
        raise wire.no_change_set(name)

    async def _exports(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        return {"Exports": []}

    async def _imports(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        name = call.require("ExportName")
        raise QueryError("ValidationError", f"Export '{name}' is not imported by any stack.")

    async def _stack(self, principal: Principal, call: wire.Call) -> StackView:
        name = call.require("StackName")
        return await self._found(principal, name, f"Stack with id {name} does not exist")

    async def _stacks(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        token, name = call.next_token, call.stack_name
        if name is not None:
            view = await self._found(principal, name, f"Stack with id {name} does not exist")
            described, following = [await self._describe(principal, view)], None
        else:
            stacks = await self._views.stacks(principal)
            described, following = await self._page(principal, stacks, token, frozenset())
        return {
            "Stacks": [wire.render_stack(stack) for stack in described],
            "NextToken": following,
        }

    async def _list(self, principal: Principal, call: wire.Call) -> dict[str, Value]:
        token, statuses = call.next_token, call.statuses
        stacks = await self._views.stacks(principal, deleted=True)
        described, following = await self._page(principal, stacks, token, statuses)
        return {
            "StackSummaries": [wire.render_summary(stack) for stack in described],
            "NextToken": following,
        }

    async def _found(self, principal: Principal, name: str, message: str) -> StackView:
        arn = parse_arn(name)
        try:
            if arn is not None:
                return await self._views.by_arn(principal, arn)
            return await self._views.by_name(principal, name, *KINDS)
        except StackNotFound as error:
            raise QueryError("ValidationError", message) from error

    async def _page(
        self, principal: Principal, stacks: list[Stack], token: str | None, statuses: frozenset[str]
    ) -> tuple[list[Description], str | None]:
        """The stacks from ``token`` on that have one of the statuses, and the next token."""
        of = f"stacks {','.join(sorted(statuses))}"
        start = self._views.tokens.parse(of, token) if token is not None else None
        described: list[Description] = []
        left = [stack for stack in stacks if start is None or _place(stack) < start]
        for looked, stack in enumerate(left):
            if len(described) == PAGE or looked == _MOST:
                return described, self._views.tokens.render(of, _place(left[looked - 1]))
            each = await self._describe(principal, await self._views.view(principal, stack))
            if not statuses or each.status in statuses:
                described.append(each)
        return described, None

    async def _describe(self, principal: Principal, view: StackView) -> Description:
        return await describe(self._views, principal, view, version=self._version)


def _place(stack: Stack) -> bytes:
    """Where a stack stands among all: the newest first, then by id."""
    return stack.created.to_bytes(_PLACE_BYTES) + stack.id.encode()
