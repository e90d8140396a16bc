"""The paths of the native API that more than one operation has, or that responses link to."""

EVENTS = "/log/v1/events"
STACKS = "/log/v1/stacks"
DEPLOYMENTS = "/log/v1/deployments"
CHANGESETS = "/log/v1/changesets"
KEYS = "/log/v1/keys"
SUBSCRIPTIONS = "/log/v1/subscriptions"
