"""A shop whose deployments the pictures of the documentation show: always the same ones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from support.deployments import start, tell
from support.servers import Running

#: When the pictures are taken.
NOW = datetime(2026, 11, 28, 14, 30, tzinfo=UTC)

#: What a release does: address, actions, and the second at which each begins and ends.
RELEASE = (
    ("module.network.aws_vpc.main", ("update",), 1.2, 3.9),
    ("module.network.aws_subnet.private[0]", ("create",), 4.0, 5.6),
    ("module.network.aws_subnet.private[1]", ("create",), 4.0, 6.1),
    ("module.network.aws_security_group.web", ("update",), 4.0, 6.8),
    ("module.data.aws_db_instance.orders", ("update",), 6.9, 49.5),
    ("module.data.aws_elasticache_cluster.sessions", ("create",), 6.2, 31.0),
    ("module.data.aws_s3_bucket.receipts", ("create",), 1.3, 3.0),
    ("module.app.aws_iam_role.checkout", ("create",), 1.3, 2.4),
    ("module.app.aws_ecs_task_definition.checkout", ("delete", "create"), 49.7, 52.6),
    ("module.app.aws_ecs_service.checkout", ("update",), 52.7, 81.3),
    ("module.app.aws_lb_listener_rule.canary", ("delete",), 52.7, 54.1),
    ("module.app.aws_route53_record.checkout", ("create",), 81.5, 84.0),
)

COMMIT = {
    "sha": "9f2c1ab44d07",
    "repository": "https://git.example/shop/checkout",
    "committed": (NOW - timedelta(hours=29, minutes=12)).isoformat(),
}


def _about(address: str) -> dict[str, Any]:
    type, name = address.split(".")[-2:]
    return {"resourceaddress": address, "resourcetype": type, "resourcename": name}


def release(pace: float = 1.0, *, fails_at: str | None = None) -> Iterator[tuple[float, Any]]:
    """The events of a release, each with its second; the database is slower by ``pace``."""
    for address, actions, begin, end in RELEASE:
        planned = "replace" if len(actions) > 1 else actions[0]
        yield 0.6, {"type": "deployment.planned", "data": {"action": planned}, **_about(address)}
        moments = [begin, (begin + end) / 2] if len(actions) > 1 else [begin]
        ends = [*moments[1:], end * (pace if "aws_db" in address else 1)]
        for action, began, ended in zip(actions, moments, ends, strict=True):
            is_failure = fails_at is not None and fails_at in address
            done = f"resource.{action}.{'failed' if is_failure else 'completed'}"
            said = f"{address}: {action.capitalize()} "
            yield (
                began,
                {
                    "type": f"resource.{action}.started",
                    "message": f"{said}started",
                    **_about(address),
                },
            )
            yield (
                ended,
                {
                    "type": done,
                    "message": f"{said}{'failed' if is_failure else 'complete'}",
                    **_about(address),
                },
            )


async def play(
    service: Running,
    number: int,
    started: datetime,
    events: Iterator[tuple[float, Any]],
    *,
    until: float = 1_000,
    end: dict[str, Any] | None = None,
    **fields: Any,
) -> str:
    """Record a deployment whose events came up to second ``until``, and how it ended; its id."""
    id = str(UUID(int=number << 96 | 7 << 76 | 2 << 62 | number))
    await start(
        service, id=id, started=started.isoformat(), tool="terraform", operation="apply", **fields
    )
    happened = sorted(((at, event) for at, event in events if at <= until), key=lambda one: one[0])
    if end is not None:
        happened.append((happened[-1][0] + 0.8, end))
    timed = [
        {"time": (started + timedelta(seconds=at)).isoformat(), **event} for at, event in happened
    ]
    await tell(service, id, *timed)
    return id


def _ago(**how: int) -> datetime:
    return NOW - timedelta(**how)


DONE = {"type": "deployment.completed", "message": "Apply complete!"}


async def open_shop(service: Running) -> str:
    """Record everything; the id of the deployment that runs."""
    checkout: dict[str, Any] = {"project": "shop", "stack": "checkout", "environment": "production"}
    approved: dict[str, Any] = {"approvers": ["grace"], "commits": [COMMIT], "actor": "ada"}
    await play(
        service, 1, _ago(hours=27), release(0.7), end=DONE, version="2.3.0", **checkout, **approved
    )
    await play(
        service, 2, _ago(hours=4), release(0.7), end=DONE, version="2.3.1", **checkout, **approved
    )
    await play(
        service, 3, _ago(hours=2), release(), end=DONE, project="shop", stack="search",
        environment="staging", version="1.9.0", actor="bo",
    )  # fmt: skip
    await play(
        service, 4, _ago(minutes=42), release(fails_at="elasticache"), project="shop",
        stack="search", environment="production", version="1.9.0", actor="bo", until=32,
        end={
            "type": "deployment.failed",
            "message": "Error: creating ElastiCache cluster: quota of 300 nodes exceeded",
        },
    )  # fmt: skip
    return await play(
        service, 5, _ago(seconds=58), release(), until=58, version="2.4.0",
        url="https://ci.example/runs/4811", change_request="https://git.example/shop/checkout/pull/1207",
        labels={"team": "payments"}, **checkout, **approved,
    )  # fmt: skip
