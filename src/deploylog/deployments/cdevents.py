"""CDEvents 0.5: its words for what happens to deployments, for the way in and the way out."""

#: The version of the specification, and that of the types used here.
SPECIFICATION = "0.5.0"
TYPE_VERSION = "0.3.0"

#: What a predicate of a service says was done.
OPERATION_BY_PREDICATE = {
    "deployed": "deploy",
    "upgraded": "upgrade",
    "rolledback": "rollback",
    "removed": "destroy",
    "published": "publish",
}

#: What an operation does to a service; any other deploys it.
PREDICATE_BY_OPERATION = {"destroy": "removed", "delete": "removed", "rollback": "rolledback"}

#: How a run finishes, by the status of its deployment.
OUTCOME_BY_STATUS = {"completed": "success", "failed": "failure"}

#: What a predicate of a run says about a deployment; a finished one has an outcome.
TYPE_BY_PREDICATE = {
    "queued": "deployment.queued",
    "started": "deployment.progress",
    "finished": "deployment.completed",
}
