"""The filter by project, stack and environment that pages of deployments offer."""

import asyncio
from collections.abc import Iterable

import msgspec

from deploylog.deployments.filters import Names
from deploylog.ui.page import View


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter, what there is to choose from, and what is chosen."""

    name: str
    label: str
    values: tuple[str, ...]
    value: str


async def place_fields(view: View, names: Names) -> tuple[Field, ...]:
    """The fields, with the values that the person may see."""
    stacks, environments = await asyncio.gather(
        view.services.deployments.stacks(view.principal),
        view.services.deployments.environments(view.principal),
    )
    in_project = {each.name for each in stacks if names.project in (None, each.project)}
    return (
        _field("project", "Project", {each.project for each in stacks}, names.project),
        _field("stack", "Stack", in_project, *names.stacks),
        _field("environment", "Environment", environments, *names.environments),
    )


def _field(name: str, label: str, values: Iterable[str], *chosen: str | None) -> Field:
    value = next(filter(None, chosen), "")
    return Field(name=name, label=label, values=tuple(sorted(values)), value=value)
