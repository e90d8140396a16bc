"""Flux's events about what it applies, to deployments.

Source: Flux's documentation, "Events" and "Providers", section "Generic webhook with HMAC"; the
reasons are those of kustomize-controller and helm-controller.
"""

import re

import msgspec

from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report, time_of

SOURCE = "flux"

#: Kinds of objects that deploy something, with the tool that they use.
TOOL_BY_KIND = {"Kustomization": "kustomize", "HelmRelease": "helm"}

#: What the reason of a successful event says was done; any other says that work goes on.
OPERATION_BY_REASON = {
    "ReconciliationSucceeded": "apply",
    "InstallSucceeded": "install",
    "UpgradeSucceeded": "upgrade",
    "RollbackSucceeded": "rollback",
    "UninstallSucceeded": "uninstall",
}

#: Reasons of events that say nothing about what is deployed.
IGNORED_REASONS = ("DependencyNotReady", "GarbageCollectionSucceeded", "TestSucceeded")

_COMMIT = re.compile(r"(?:^|[@/:])(?:sha1:|sha256:)?([0-9a-f]{40}|[0-9a-f]{64})$")

#: What precedes the name of a value in the metadata of Flux's own.
_PREFIX = re.compile(r"^[a-z0-9.-]+\.toolkit\.fluxcd\.io/")


class InvolvedObject(msgspec.Struct):
    """The object that an event is about."""

    kind: str
    name: str
    namespace: str = ""


class FluxEvent(msgspec.Struct, rename="camel"):
    """The body of an event."""

    involved_object: InvolvedObject
    severity: str
    reason: str
    timestamp: str
    message: str = ""
    metadata: dict[str, str] = {}


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput."""
    event = decode(delivery, FluxEvent)
    subject = event.involved_object
    metadata = {_PREFIX.sub("", name): value for name, value in event.metadata.items()}
    revision = metadata.get("revision")
    if subject.kind not in TOOL_BY_KIND or revision is None:
        return Ignored(
            f"a {subject.kind[:64]} without a revision, or of another kind, deploys nothing:"
            f" known are {', '.join(TOOL_BY_KIND)}"
        )
    if event.reason in IGNORED_REASONS:
        return Ignored(f"the reason {event.reason!r} says nothing about what is deployed")
    return [
        report(
            delivery,
            source=SOURCE,
            id=delivery.digest,
            key=f"{subject.kind}/{subject.namespace}/{subject.name}@{revision}"[:900],
            stack=subject.name,
            environment=metadata.get("environment") or metadata.get("env"),
            type=_type(event),
            time=time_of("timestamp", event.timestamp),
            tool=TOOL_BY_KIND[subject.kind],
            operation=OPERATION_BY_REASON.get(event.reason),
            message=f"{subject.kind} {subject.namespace}/{subject.name}: {event.message}",
            details={
                "version": _version(subject, revision),
                "commits": _commits(revision),
                "labels": _labels(subject, metadata),
            },
            data={"reason": event.reason, "severity": event.severity},
        )
    ]


def _type(event: FluxEvent) -> str:
    if event.severity == "error":
        return "deployment.failed"
    is_done = event.reason in OPERATION_BY_REASON
    return "deployment.completed" if is_done else "deployment.progress"


def _version(subject: InvolvedObject, revision: str) -> str | None:
    """The version of the chart: the revision of anything else is a commit or a digest."""
    return revision.partition("@")[0] if subject.kind == "HelmRelease" else None


def _commits(revision: str) -> list[dict[str, str]]:
    """The commit, of a revision such as ``main@sha1:…``."""
    match = _COMMIT.search(revision)
    return [{"sha": match[1]}] if match and "sha256:" not in revision else []


def _labels(subject: InvolvedObject, metadata: dict[str, str]) -> dict[str, str]:
    labels = {"namespace": subject.namespace, **metadata}
    return {name: value for name, value in labels.items() if value and len(value) <= 256}
