"""Reports: what a producer says about a deployment that it names by a key of its own."""

from typing import Any
from uuid import UUID, uuid5

import msgspec

from deploylog.deployments.catalog import check_name
from deploylog.deployments.details import NO_DETAILS, Details, check_details, details_json
from deploylog.deployments.lifecycle import CARRIES_DETAILS, DEPLOYMENT_ENDS
from deploylog.errors import InvalidInput
from deploylog.events.event import MAX_NAME_LENGTH, NewEvent

#: The namespace of the ids of deployments that are named by a key.
_NAMESPACE = UUID("0f6a5d1c-52f0-4f0e-9b7e-6a3f8a0d9a11")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a deployment. The first one opens the deployment."""

    project: str
    stack: str
    environment: str | None = None
    #: The producer's own name of the deployment; another source may use the same.
    key: str
    #: Without scopes, which are those of the deployment.
    event: NewEvent
    #: When the deployment started, in ns, if the producer says so.
    started: int | None = None
    tool: str | None = None
    operation: str | None = None
    details: Details = NO_DETAILS
    #: What else the event's data says. ``None`` leaves the data of the event as it is.
    data: dict[str, Any] | None = None
    #: Whether it opens the deployment if nothing else has.
    opens: bool = True

    @property
    def is_end(self) -> bool:
        """Whether it ends the deployment."""
        return self.event.type in DEPLOYMENT_ENDS

    def deployment_id(self, run: int) -> str:
        """The id of the deployment, the same each time. A deployment that has ended may be
        run again, under the same key: the first run is number 1.
        """
        name = "\n".join((self.project, self.event.source, self.key, str(run)))
        return str(uuid5(_NAMESPACE, name))

    def raw_data(self, **more: object) -> msgspec.Raw | None:
        """The data of its event, with ``more`` members."""
        if self.data is None:
            return self.event.data
        carried = details_json(self.details) if self.event.type in CARRIES_DETAILS else {}
        return msgspec.Raw(msgspec.json.encode(self.data | carried | more))


def check_report(report: Report) -> None:
    """Raise InvalidInput, naming the field, unless a deployment may have what is reported."""
    for field in ("project", "stack", "environment"):
        value = getattr(report, field)
        if value is not None:
            check_name(field, value)
    if not 1 <= len(report.key) <= MAX_NAME_LENGTH:
        raise InvalidInput(
            f"deployment must have 1 to {MAX_NAME_LENGTH} characters", field="deployment"
        )
    check_details(report.details)
