"""Visibility as SQL, for rows with their scopes and groups as JSON arrays."""

from deploylog.events.access import Visibility
from deploylog.events.event import PUBLIC_GROUP
from deploylog.events.scope import ROOT
from deploylog.store.rows import json_text
from deploylog.store.sqlite.connection import SqlValue

_GRANTED = """EXISTS (
    SELECT 1 FROM json_each(c.scopes) AS scope, json_each(:granted) AS grant_
    WHERE substr(scope.value || '/', 1, length(grant_.value) + 1) = grant_.value || '/'
)"""

_GROUPS_MEET = """(
    c."groups" = '[]' OR EXISTS (
        SELECT 1 FROM json_each(c."groups") AS own, json_each(:own_groups) AS asked
        WHERE own.value = asked.value
    )
)"""


def visible_rows(visibility: Visibility) -> tuple[str, dict[str, SqlValue]]:
    """The condition of ``Visibility`` on rows ``c``, and the parameters that it names."""
    conditions = ["1"]
    values: dict[str, SqlValue] = {}
    if ROOT not in visibility.scopes:
        conditions.append(_GRANTED)
        values["granted"] = json_text(visibility.scopes)
    if visibility.groups is not None:
        conditions.append(_GROUPS_MEET)
        values["own_groups"] = json_text({*visibility.groups, PUBLIC_GROUP})
    return " AND ".join(conditions), values
