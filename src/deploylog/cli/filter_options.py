"""Options of commands that read: times, words, filters and names."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from deploylog.cli.options import Limit, choice_of, params
from deploylog.client import Params

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Only events at or after this time: RFC 3339, or a time ago: 15m, 2h or 7d.",
    ),
]
StartedSince = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Only deployments that started since: RFC 3339, or a time ago: 15m, 2h or 7d.",
    ),
]
Scope = Annotated[
    str | None,
    typer.Option("--scope", help="Only events below this scope, for example project/acme."),
]


Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="Words that an event must have, all of them, in its message, subject or resource."
        " Write a phrase as '\"access denied\"' and the start of a word as throttl*.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", help="Only events before this time, written as in --since."),
]


def _filter(option: str, help: str) -> Any:
    return typer.Option(option, help=f"{help} Repeatable.")


class FilterField(StrEnum):
    """The fields that filter events."""

    type = "type"
    source = "source"
    actor = "actor"
    subject = "subject"
    resource_type = "resource-type"
    resource_name = "resource-name"
    resource_key = "resource-key"
    resource_address = "resource-address"
    resource_id = "resource-id"

    @property
    def parameter(self) -> str:
        """Its name as a query parameter."""
        return self.value.replace("-", "")


def _parse_excluded(text: str) -> tuple[str, str]:
    """Return the query parameter and the value of ``FIELD=VALUE``; raises BadParameter."""
    name, equals, value = text.partition("=")
    field = choice_of(FilterField)(name)
    if not equals or not value:
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE.")
    return field.parameter, value


def _check_excluded(texts: list[str] | None) -> list[str] | None:
    for text in texts or ():
        _parse_excluded(text)
    return texts


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The options that filter events: values of one option are ORed, options are ANDed."""

    type: Annotated[
        list[str] | None,
        _filter(
            "--type", "Only events of this type. resource.* matches every type below resource."
        ),
    ] = None
    source: Annotated[list[str] | None, _filter("--source", "Only events from this source.")] = None
    actor: Annotated[list[str] | None, _filter("--actor", "Only events by this actor.")] = None
    subject: Annotated[
        list[str] | None, _filter("--subject", "Only events about this subject.")
    ] = None
    resource_type: Annotated[
        list[str] | None,
        _filter("--resource-type", "Only events about resources of this type."),
    ] = None
    resource_name: Annotated[
        list[str] | None,
        _filter("--resource-name", "Only events about resources with this name."),
    ] = None
    resource_key: Annotated[
        list[str] | None,
        _filter("--resource-key", "Only events about resources with this index or key."),
    ] = None

    resource_address: Annotated[
        list[str] | None,
        _filter("--resource-address", "Only events about resources with this address."),
    ] = None
    resource_id: Annotated[
        list[str] | None,
        _filter("--resource-id", "Only events about resources with this id of the provider."),
    ] = None
    excluded: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            metavar="FIELD=VALUE",
            callback=_check_excluded,
            help="Exclude events whose field has this value, for example type=deployment.log."
            " Repeatable.",
        ),
    ] = None

    def params(self, words: Sequence[str] | None = None) -> Params:
        """Return the filter as query parameters, with the words of a full text."""
        excluded = [(f"{name}!", value) for name, value in self._excluded()]
        return [*params(q=" ".join(words) if words else None, **self._values()), *excluded]

    def fields(self, text: str | None = None) -> dict[str, Any] | None:
        """Return the filter as a subscription has it; ``None`` if no option is given."""
        given: dict[str, Any] = {
            name.replace("_", ""): values for name, values in self._values().items() if values
        }
        excluded: dict[str, list[str]] = {}
        for name, value in self._excluded():
            excluded.setdefault(name, []).append(value)
        if excluded:
            given["not"] = excluded
        if text is not None:
            given["q"] = text
        return given or None

    def _values(self) -> dict[str, list[str] | None]:
        values = msgspec.structs.asdict(self)
        del values["excluded"]
        return values

    def _excluded(self) -> list[tuple[str, str]]:
        return [_parse_excluded(text) for text in self.excluded or ()]


class DeploymentNames(msgspec.Struct, frozen=True, kw_only=True):
    """The options that select by names: values of one option are ORed, options are ANDed."""

    project: Annotated[
        str | None, typer.Option("--project", help="Only what is of this project.")
    ] = None
    stack: Annotated[list[str] | None, _filter("--stack", "Only what is of this stack.")] = None
    environment: Annotated[
        list[str] | None, _filter("--environment", "Only what is of this environment.")
    ] = None
    status: Annotated[
        list[str] | None,
        _filter("--status", "Only deployments with this status: running, completed or failed."),
    ] = None
    version: Annotated[
        list[str] | None, _filter("--version", "Only deployments of this version.")
    ] = None
    commit: Annotated[
        list[str] | None,
        _filter("--commit", "Only deployments of the commit that starts with these digits."),
    ] = None
    label: Annotated[
        list[str] | None, _filter("--label", "Only deployments with the label NAME=VALUE.")
    ] = None

    def params(self) -> Params:
        """Return the names as query parameters."""
        return params(**msgspec.structs.asdict(self))


class NameFilter(DeploymentNames, frozen=True, kw_only=True):
    """The names, and the ids of deployments."""

    deployment: Annotated[
        list[str] | None,
        _filter("--deployment", "Only the deployment with this id, or the start of its id."),
    ] = None


class StackFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The options that filter deployments and change sets."""

    project: Annotated[
        str | None, typer.Option("--project", help="Only items of this project.")
    ] = None
    stack: Annotated[
        str | None, typer.Option("--stack", help="Only items of this stack. Requires --project.")
    ] = None
    limit: Limit = 20

    def params(self) -> Params:
        """Return the filter as query parameters."""
        return params(project=self.project, stack=self.stack, limit=self.limit)
