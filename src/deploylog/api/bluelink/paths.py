"""The paths of the Bluelink API."""

HEALTH = "/v1/health"

CHANGES = "/v1/deployments/changes"
CHANGES_STREAM = f"{CHANGES}/{{id}}/stream"

INSTANCES = "/v1/deployments/instances"

RECONCILIATION_RESULTS = "/v1/deployments/reconciliation-results"
EVENTS = "/v1/events"
VALIDATIONS = "/v1/validations"

#: The engine answers unknown paths below these.
PREFIXES = ("/v1/deployments", HEALTH, EVENTS, VALIDATIONS)
