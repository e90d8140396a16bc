package spacelift

# The project in Deploylog, and the id of the webhook in Spacelift.
project := "acme"

endpoint_id := "deploylog"

types := {
  "QUEUED": "deployment.queued",
  "READY": "deployment.queued",
  "PREPARING": "deployment.progress",
  "INITIALIZING": "deployment.progress",
  "PLANNING": "deployment.progress",
  "PENDING_REVIEW": "deployment.waiting",
  "UNCONFIRMED": "deployment.waiting",
  "CONFIRMED": "deployment.progress",
  "APPLYING": "deployment.progress",
  "DESTROYING": "deployment.progress",
  "FINISHED": "deployment.completed",
  "FAILED": "deployment.failed",
  "DISCARDED": "deployment.failed",
  "STOPPED": "deployment.failed",
  "CANCELED": "deployment.failed",
}

environments := [name |
  label := input.run_updated.stack.labels[_]
  startswith(label, "environment:")
  name := trim_prefix(label, "environment:")
]

environment := {"environment": environments[0]} { count(environments) > 0 }

environment := {} { count(environments) == 0 }

actors := [name | name := input.run_updated.run.triggered_by; name != null]

actor := {"actor": actors[0]} { count(actors) > 0 }

actor := {} { count(actors) == 0 }

event := {
  "type": types[input.run_updated.state],
  "id": sprintf("%s/%s", [input.run_updated.run.id, input.run_updated.state]),
  "source": "spacelift",
  "time": time.format(input.run_updated.run.updated_at),
  "project": project,
  "stack": input.run_updated.stack.id,
  "deployment": input.run_updated.run.id,
  "message": sprintf("%s: %s", [input.run_updated.stack.id, input.run_updated.state]),
  "data": {
    "tool": "spacelift",
    "operation": "apply",
    "url": input.run_updated.urls.run,
    "commits": [{"sha": input.run_updated.run.commit.hash}],
  },
}

webhook[request] {
  input.run_updated.run.type == "TRACKED"
  types[input.run_updated.state]
  endpoint := input.webhook_endpoints[_]
  endpoint.id == endpoint_id
  request := {
    "endpoint_id": endpoint.id,
    "headers": {"Content-Type": "application/json"},
    "payload": object.union(object.union(event, environment), actor),
  }
}
