"""Deployments that a test starts, fills and ends, over HTTP."""

from typing import Any

from support.servers import EVENTS, Running


async def start(service: Running, *, stack: str = "web", **fields: object) -> str:
    """Start a deployment; its id."""
    return str((await service.open(stack, **fields))["id"])


async def tell(service: Running, deployment: str, *events: dict[str, Any]) -> list[str]:
    """Record events of the deployment; their ids."""
    whole = [{"source": "terraform", **event} for event in events]
    return await service.append(whole, path=f"{EVENTS}?deployment={deployment}")


async def finish(
    service: Running, deployment: str, *, type: str = "deployment.completed", **fields: object
) -> None:
    """End the deployment."""
    await tell(service, deployment, {"type": type, **fields})
