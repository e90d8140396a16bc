"""The log's events of a CloudFormation stack."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from deploylog.deployments.catalog import MAX_NAME_LENGTH as MAX_STACK_NAME
from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NAME_LENGTH,
    NewEvent,
    Resource,
)
from deploylog.events.scope import Scope, deployment_scope, stack_scope
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import name_in
from deploylog.ingest.cloudformation.stack_event import SOURCE, StackEvent, catalogue_id

#: The tool of the deployments, in the catalogue.
TOOL = "cloudformation"

#: How an event arrived, if not from CloudFormation itself: the value of the attribute ``via``.
Via = Literal["sns", "eventbridge"]

#: The longest part of a name that leaves room for a slash and a UUID.
_MAX_NAME = MAX_STACK_NAME - 37


class StackContext(msgspec.Struct, frozen=True, kw_only=True):
    """What all events of a stack share."""

    project: str
    #: The ARN of the root stack.
    arn: str
    #: Additional scopes of its events, such as ``cluster/<name>``.
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()
    #: The stack's tags, if known.
    tags: dict[str, str] | None = None
    via: Via | None = None

    @property
    def stack_id(self) -> str:
        """The catalogue's id of the stack."""
        return catalogue_id(self.project, self.arn)

    def deployment_id(self, event: StackEvent) -> str:
        """The id of the deployment that starts with ``event``."""
        return catalogue_id(self.project, f"{event.stack_id}/{event.event_id}")

    @property
    def stack_scope(self) -> Scope:
        """The scope of the stack's events."""
        return stack_scope(self.project, self.stack_id)

    @property
    def name(self) -> str:
        return name_in(self.arn)

    @property
    def long_name(self) -> str:
        """Its name in the catalogue if another stack has the short one."""
        return f"{self.name[:_MAX_NAME]}/{self.arn.rpartition('/')[2][:36]}"


class EventRenderer:
    """Renders the log's events of one stack."""

    def __init__(self, context: StackContext) -> None:
        self._context = context

    def stack_created(self, time: int, *, long: bool = False) -> NewEvent:
        """The creation of the stack; ``long`` if its short name is taken."""
        name = self._context.long_name if long else self._context.name
        return self.event(
            "stack.created",
            f"{self._context.stack_id}/created",
            time,
            None,
            subject=name,
            message=f"Stack {name} created",
            data={"name": name},
        )

    def stack_event(
        self,
        type: str,
        event: StackEvent,
        time: int,
        within: Operation | None,
        *,
        reason: str | None = None,
        **facts: str | None,
    ) -> NewEvent:
        message = reason or _message(event)
        if event.is_stack_itself and event.stack_id == self._context.arn:
            event = msgspec.structs.replace(event, tags=self._context.tags)
        return self.event(
            type,
            event.event_id,
            time,
            within,
            subject=event.logical_resource_id,
            message=_truncate(message),
            data=_data(event, facts),
            resource=self._resource(event),
        )

    def stack_deleted(self, event: StackEvent, time: int) -> NewEvent:
        name = self._context.name
        return self.event(
            "stack.deleted",
            f"{event.event_id}/deleted",
            time,
            None,
            subject=name,
            message=f"Stack {name} deleted",
            data={"name": name},
        )

    def event(
        self,
        type: str,
        id: str,
        time: int,
        within: Operation | None,
        *,
        subject: str,
        message: str | None,
        data: Mapping[str, object],
        resource: Resource | None = None,
    ) -> NewEvent:
        context = self._context
        own = context.stack_scope
        if within is not None:
            own = deployment_scope(context.project, context.stack_id, within.id)
        is_about_stack = type.startswith("stack.")
        return NewEvent(
            type=type,
            source=SOURCE,
            scopes=(own,) if is_about_stack else (own, *context.scopes),
            time=time,
            producer_id=id,
            subject=subject,
            groups=() if is_about_stack else context.groups,
            resource=resource,
            message=message,
            data=msgspec.Raw(msgspec.json.encode(data)),
            extensions=_extensions(context.via),
        )

    def _resource(self, event: StackEvent) -> Resource:
        id = event.physical_resource_id
        has_id = 0 < len(id) <= MAX_NAME_LENGTH
        is_nested = event.stack_id != self._context.arn
        return Resource(
            type=event.resource_type,
            name=event.logical_resource_id,
            address=f"{event.stack_name}/{event.logical_resource_id}" if is_nested else None,
            id_key="PhysicalResourceId" if has_id else None,
            id_value=id if has_id else None,
        )


def _message(event: StackEvent) -> str | None:
    if event.hook_status is not None:
        return event.hook_status_reason or f"{event.hook_type or 'Hook'}: {event.hook_status}"
    return event.resource_status_reason or (
        event.resource_status if event.is_stack_itself else None
    )


def _extensions(via: Via | None) -> msgspec.Raw | None:
    return msgspec.Raw(msgspec.json.encode({"via": via})) if via is not None else None


def _data(event: StackEvent, facts: Mapping[str, str | None]) -> dict[str, object]:
    """The stack event with ``facts``; without its properties if they exceed the limit."""
    data: dict[str, object] = msgspec.to_builtins(event)
    data |= {name: value for name, value in facts.items() if value is not None}
    if len(msgspec.json.encode(data)) > MAX_DATA_BYTES:
        data.pop("ResourceProperties", None)
        data["ResourceStatusReason"] = _truncate(event.resource_status_reason)
    return data


def _truncate(message: str | None) -> str | None:
    """Truncate to the maximum size of a message, and replace NULs."""
    if message is None:
        return None
    clean = message.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(clean.encode()) <= MAX_MESSAGE_BYTES:
        return clean
    return clean.encode()[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
