"""Plans for tests, as a tool writes them."""

import json
from typing import Any

from deploylog.deployments.changeset import Changes, ResourceChange
from deploylog.ingest.terraform.plan import parse_plan

#: JSON that tests write and read.
Json = Any


def new_change(*actions: str, **parts: Json) -> Json:
    return {"actions": list(actions or ("update",)), "before": None, "after": None, **parts}


def new_resource(*actions: str, address: str = "a.b", **parts: Json) -> Json:
    """A resource's change; what is no part of it is one of its change."""
    outside = ("mode", "type", "name", "index", "deposed", "previous_address", "action_reason",
               "provider_name", "module_address")  # fmt: skip
    own = {name: parts.pop(name) for name in outside if name in parts}
    change = new_change(*actions, **parts)
    return {"address": address, "mode": "managed", "type": "a", "name": "b", **own} | {
        "change": change
    }


def new_plan(*resources: Json, **parts: Json) -> Json:
    return {"format_version": "1.2", "resource_changes": list(resources), **parts}


def parse(plan: Json) -> Changes:
    return parse_plan(json.dumps(plan).encode())


def parse_one(resource: Json, **parts: Json) -> ResourceChange:
    [change] = parse(new_plan(resource, **parts)).resources
    return change
