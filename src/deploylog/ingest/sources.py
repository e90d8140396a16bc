"""The sources: systems whose webhooks are recorded as deployments, by the name in their path."""

from collections.abc import Callable

from deploylog.errors import NotFound
from deploylog.ingest.atlantis import mapping as atlantis
from deploylog.ingest.cdevents import mapping as cdevents
from deploylog.ingest.delivery import Delivery, Said
from deploylog.ingest.flux import mapping as flux
from deploylog.ingest.github import mapping as github
from deploylog.ingest.gitlab import mapping as gitlab
from deploylog.ingest.hcpterraform import mapping as hcp_terraform
from deploylog.ingest.pulumi import mapping as pulumi

#: Reads a delivery of a source; raises InvalidInput or UnsupportedMedia.
Read = Callable[[Delivery], Said]

SOURCES: dict[str, Read] = {
    "github": github.read,
    "gitlab": gitlab.read,
    "hcp-terraform": hcp_terraform.read,
    "flux": flux.read,
    "atlantis": atlantis.read,
    "pulumi": pulumi.read,
    "cdevents": cdevents.read,
}


def reader_of(source: str) -> Read:
    """What reads the source's deliveries; raises NotFound, which lists the sources."""
    if source not in SOURCES:
        raise NotFound(f"there is no source {source[:64]!r}; known are {', '.join(SOURCES)}")
    return SOURCES[source]
