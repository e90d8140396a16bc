"""Events as a Terraform run reports them, and the deployments they belong to."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from bench.http1 import Client, post

NDJSON = "application/x-ndjson"
CLOUDEVENT = "application/cloudevents+json"

_RESOURCES = (
    ("aws_instance", "web", "i-0{:016x}"),
    ("aws_security_group_rule", "ingress_https", "sgrule-{:010d}"),
    ("aws_route_table_association", "private", "rtbassoc-0{:016x}"),
    ("aws_iam_role_policy_attachment", "worker", "worker-20261121{:010d}"),
    ("aws_s3_object", "assets", "assets/{:08x}"),
)


#: A webhook's body of the usual size.
EVENT_BODY = msgspec.json.encode({"specversion": "1.0", "data": "x" * 600})


class Deployment(msgspec.Struct, frozen=True):
    """An open deployment, as the server returns it."""

    id: str
    scopes: tuple[str, ...]


async def open_deployment(client: Client, project: str, stack: str) -> Deployment:
    """Open a deployment of a stack."""
    wanted = {
        "project": project,
        "stack": stack,
        "tool": "terraform",
        "operation": "apply",
        "environment": "prod",
        "actor": "alice",
    }
    body = json.dumps(wanted).encode()
    answer = await client.expect(201, post("/log/v1/deployments", body, "application/json"))
    return msgspec.json.decode(answer, type=Deployment)


def resource_event(deployment: Deployment, number: int, **also: Any) -> dict[str, Any]:
    """Return an event of about 400 B about a resource; ``also`` replaces attributes."""
    kind, name, id_format = _RESOURCES[number // 2 % len(_RESOURCES)]
    address = f"module.platform.{kind}.{name}[{number // 2}]"
    event = {
        "id": f"{deployment.id}/{number}",
        "time": f"2026-11-21T04:{number // 60 % 60:02}:{number % 60:02}.{number % 1000:03}Z",
        "actor": "alice",
        "resourcetype": kind,
        "resourcename": name,
        "resourceaddress": address,
    }
    if number % 2 == 0:
        message = f"{address}: Creating..."
        return event | {"type": "resource.create.started", "message": message} | also
    value = id_format.format(number)
    done = {
        "type": "resource.create.completed",
        "message": f"{address}: Creation complete after {number % 90}s [id={value}]",
        "elapsedms": number % 90 * 1000,
        "resourceidkey": "id",
        "resourceidvalue": value,
    }
    return event | done | also


def batch_request(deployment: Deployment, events: Iterable[dict[str, Any]]) -> bytes:
    """Append these events of a deployment."""
    body = b"\n".join(map(msgspec.json.encode, events))
    return post(_append_path(deployment), body, NDJSON)


def single_request(deployment: Deployment, event: dict[str, Any]) -> bytes:
    """Append one event of a deployment."""
    body = msgspec.json.encode({"specversion": "1.0", "source": "terraform"} | event)
    return post(_append_path(deployment), body, CLOUDEVENT)


def _append_path(deployment: Deployment) -> str:
    return f"/log/v1/events?source=terraform&scope={deployment.scopes[0]}"
