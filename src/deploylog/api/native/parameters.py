"""Parameters that operations on several things share."""

from deploylog.api.native.query_string import DEFAULT_LIMIT, MAX_LIMIT
from deploylog.api.operation import Parameter, repeated, whole_number

#: They select by the names that people use.
NAMES = (
    Parameter(name="project", help="Only what is of this project."),
    Parameter(
        name="stack", help="Only what is of the stack that has this name now.", schema=repeated()
    ),
    Parameter(name="environment", help="Only what is of this environment.", schema=repeated()),
    Parameter(
        name="deployment",
        help="Only the deployment with this id, or whose id starts so.",
        schema=repeated(),
    ),
    Parameter(
        name="status",
        help="Only deployments with this status: running, completed or failed.",
        schema=repeated(),
    ),
    Parameter(name="version", help="Only deployments of this version.", schema=repeated()),
    Parameter(
        name="commit",
        help="Only deployments of a commit that starts with these digits.",
        schema=repeated(),
    ),
    Parameter(
        name="label", help="Only deployments with this label: NAME=VALUE.", schema=repeated()
    ),
)

LIMIT = Parameter(
    name="limit", help="Maximum number of items.", schema=whole_number(1, MAX_LIMIT, DEFAULT_LIMIT)
)

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    help="Identifies the request: a retry with the same key gets the same response.",
    place="header",
)
