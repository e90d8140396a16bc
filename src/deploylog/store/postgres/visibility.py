"""Visibility as SQL, for rows with their scopes and groups as arrays."""

from deploylog.events.access import Visibility
from deploylog.events.event import PUBLIC_GROUP
from deploylog.events.scope import ROOT

_GRANTED = """EXISTS (
    SELECT 1 FROM unnest(c.scopes) AS scope, unnest(%(granted)s::text[]) AS granted
    WHERE starts_with(scope || '/', granted || '/')
)"""

_GROUPS_MEET = """(c."groups" = '{}' OR c."groups" && %(own_groups)s::text[])"""


def visible_rows(visibility: Visibility) -> tuple[str, dict[str, object]]:
    """The condition of ``Visibility`` on rows ``c``, and the parameters that it names."""
    conditions = ["TRUE"]
    values: dict[str, object] = {}
    if ROOT not in visibility.scopes:
        conditions.append(_GRANTED)
        values["granted"] = list(visibility.scopes)
    if visibility.groups is not None:
        conditions.append(_GROUPS_MEET)
        values["own_groups"] = sorted({*visibility.groups, PUBLIC_GROUP})
    return " AND ".join(conditions), values
