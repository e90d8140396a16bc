"""The kinds of endpoints: one module or folder for each, and the table of all."""

from deploylog.subscriptions.delivery.kinds.cdevents import CDEVENTS
from deploylog.subscriptions.delivery.kinds.grafana import GRAFANA
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind
from deploylog.subscriptions.delivery.kinds.pagerduty import PAGERDUTY
from deploylog.subscriptions.delivery.kinds.slack import SLACK
from deploylog.subscriptions.delivery.kinds.teams import TEAMS
from deploylog.subscriptions.delivery.kinds.template import TEMPLATE
from deploylog.subscriptions.delivery.kinds.webhook import WEBHOOK

KINDS: dict[str, EndpointKind] = {
    kind.name: kind for kind in (WEBHOOK, SLACK, TEAMS, GRAFANA, PAGERDUTY, TEMPLATE, CDEVENTS)
}
