"""The client's models have the fields, and the types, of the server's JSON."""

from typing import Any

import msgspec
import pytest
from msgspec import inspect

from deploylog.api.native import wire
from deploylog.api.native.catalog import wire as catalog_wire
from deploylog.api.native.subscriptions import wire as subscription_wire
from deploylog.client import models, subscriptions
from deploylog.deployments.service import NewDeployment
from deploylog.events import facets
from deploylog.events.cloudevents import CloudEvent

Struct = type[msgspec.Struct]

#: A model of the client, and the server's struct of the same JSON.
SAME: list[tuple[Struct, Struct]] = [
    (models.NewDeployment, NewDeployment),
    (models.DeploymentState, catalog_wire.DeploymentBody),
    (models.DeploymentPage, catalog_wire.DeploymentPage),
    (models.ChangesetState, catalog_wire.ChangesetBody),
    (models.ChangesetPage, catalog_wire.ChangesetPage),
    (models.StackState, catalog_wire.StackBody),
    (models.Receipt, wire.Receipt),
    (models.EventPage, wire.EventPage),
    (models.Explanation, wire.Explanation),
    (models.EventCount, wire.EventCount),
    (models.FacetList, wire.FacetList),
    (models.Facet, facets.Facet),
    (subscriptions.SecretState, subscription_wire.SecretBody),
    (subscriptions.SubscriptionState, subscription_wire.SubscriptionBody),
    (subscriptions.AttemptState, subscription_wire.AttemptBody),
    (subscriptions.AttemptPage, subscription_wire.AttemptPage),
    (subscriptions.DeadLetterState, subscription_wire.DeadLetterBody),
    (subscriptions.DeadLetterPage, subscription_wire.DeadLetterPage),
]

#: Models that have some of the fields only.
PARTIAL: list[tuple[Struct, Struct]] = [
    (models.DamagedState, wire.DamagedEvent),
    (models.LoggedEvent, CloudEvent),
]

_JSON_TYPES = {
    inspect.StrType: "string",
    inspect.DateTimeType: "string",
    inspect.LiteralType: "string",
    inspect.IntType: "number",
    inspect.BoolType: "boolean",
    inspect.ListType: "array",
    inspect.VarTupleType: "array",
    inspect.StructType: "object",
    inspect.DictType: "object",
    inspect.NoneType: "null",
}


def json_types(type: Any) -> set[str]:
    """The types of JSON that ``type`` reads or writes; of an array, with those of its items."""
    if isinstance(type, inspect.UnionType):
        return set().union(*map(json_types, type.types))
    if isinstance(type, inspect.Metadata):
        return json_types(type.type)
    if isinstance(type, inspect.RawType):
        return {"object"}
    if isinstance(type, inspect.ListType | inspect.VarTupleType):
        return {f"array of {item}" for item in json_types(type.item_type)}
    return {_JSON_TYPES[type.__class__]}


def fields(struct: Struct) -> dict[str, set[str]]:
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return {field.encode_name: json_types(field.type) for field in described.fields}


def name(pair: object) -> str:
    return getattr(pair, "__name__", "")


@pytest.mark.parametrize(("model", "body"), SAME, ids=name)
def test_a_model_has_every_field_of_the_servers_json(model: Struct, body: Struct):
    assert fields(model).keys() == fields(body).keys()


@pytest.mark.parametrize(("model", "body"), [*SAME, *PARTIAL], ids=name)
def test_a_model_reads_the_types_of_the_servers_json(model: Struct, body: Struct):
    sent = fields(body)

    for field, types in fields(model).items():
        assert field in sent
        optional = {"null"} if model in dict(PARTIAL) or body is NewDeployment else set()
        assert sent[field] - optional <= types, field
