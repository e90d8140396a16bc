"""CDEvents 0.5, with the fields of the specification's conformance files."""

from typing import Any

DIGEST = "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427"
ARTIFACT = f"pkg:oci/myapp@{DIGEST.replace(':', '%3A')}"

_LINKS = [
    {
        "linkType": "RELATION",
        "linkKind": "TRIGGER",
        "target": {"contextId": "5328c37f-0000-4bb7-84ea-9f5f85e4a7ce"},
        "tags": {"team": "shop"},
    }
]


def cdevent(
    type: str, at: str, subject: str, *, source: str = "/tekton/prod", **content: Any
) -> dict[str, Any]:
    """A CDEvent; ``type`` is without its prefix and version, ``at`` the time of day."""
    return {
        "context": {
            "specversion": "0.5.0",
            "id": f"{type}-{subject}-{at}",
            "chainId": "4c8cb7dd-0000-41de-8768-eec704e2829b",
            "source": source,
            "type": f"dev.cdevents.{type}.0.3.0",
            "timestamp": f"2026-03-01T{at}Z",
            "schemaUri": "https://example.com/schema",
            "links": _LINKS,
        },
        "subject": {"id": subject, "source": source, "content": content},
        "customData": {"metric": "latency"},
        "customDataContentType": "application/json",
    }


def service(predicate: str, at: str, **content: Any) -> dict[str, Any]:
    """What happened to the service ``myapp`` in prod."""
    content = {"environment": {"id": "prod", "source": "/iaas"}, **content}
    if predicate not in ("removed", "published"):
        content.setdefault("artifactId", ARTIFACT)
    return cdevent(f"service.{predicate}", at, "service/myapp", **content)


def run(predicate: str, at: str, **content: Any) -> dict[str, Any]:
    """What happened to the run 1234 of the pipeline ``release``."""
    content = {"pipelineName": "release", "uri": "https://ci.example.com/1234", **content}
    return cdevent(f"pipelinerun.{predicate}", at, "ns/pipelinerun-1234", **content)


def incident(predicate: str, at: str, **content: Any) -> dict[str, Any]:
    """What happened to an incident of ``myapp`` in prod."""
    named = {
        "description": "Response time above 100ms",
        "environment": {"id": "prod", "source": "/iaas"},
        "service": {"id": "service/myapp", "source": "/clusterA/namespaceB"},
        **content,
    }
    return cdevent(f"incident.{predicate}", at, "incident-123", source="/monitoring", **named)


def structured(event: dict[str, Any]) -> dict[str, Any]:
    """The CloudEvent in structured mode that carries a CDEvent."""
    context = event["context"]
    return {
        "specversion": "1.0",
        "id": context["id"],
        "source": context["source"],
        "type": context["type"],
        "subject": event["subject"]["id"],
        "time": context["timestamp"],
        "datacontenttype": "application/json",
        "data": event,
    }


def binary_headers(event: dict[str, Any]) -> dict[str, str]:
    """The headers of the CloudEvent in binary mode that carries a CDEvent."""
    attributes = structured(event)
    del attributes["data"], attributes["datacontenttype"]
    content_type = {"Content-Type": "application/cdevents+json; charset=utf-8"}
    return {f"ce-{name}": value for name, value in attributes.items()} | content_type
