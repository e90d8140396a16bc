"""The dashboard and the alert rules ask for metrics that exist, with labels that they have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploylog.server.metrics import Metrics
from deploylog.server.requests import Answered
from support.paths import ROOT

DASHBOARD = json.loads((ROOT / "packaging" / "grafana" / "deploylog.json").read_text())
ALERTS = yaml.safe_load((ROOT / "packaging" / "prometheus" / "alerts.yaml").read_text())

#: What Prometheus itself adds.
ADDED = {"up"}
ADDED_LABELS = {"instance", "job", "le"}

_NAME = re.compile(r"\b(?:deploylog|process|python)_\w+\b|\bup\b")
_SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
_LABEL = re.compile(r'(\w+)\s*[=!]~?\s*"')
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def exposed() -> Iterator[tuple[str, set[str]]]:
    """The name and the labels of each sample of metrics that have one of each kind."""
    metrics = Metrics()
    metrics.answered(Answered(method="GET", route="/", path="/", status=200, seconds=1, client="-"))
    metrics.failed("InvalidEvent")
    metrics.damaged("checksum")
    metrics.turned_away("malformed")
    metrics.attempted("delivered", 1)
    metrics.delivering("s1", lag=0, dead_lettered=0)
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            yield sample.name, set(sample.labels)


SAMPLES = dict(exposed())

PANELS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
EXPRESSIONS = PANELS | {name: rule["expr"] for name, rule in RULES.items()}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_exist(expression: str):
    names = set(_NAME.findall(re.sub(r"\{[^}]*\}", "", expression))) - ADDED
    labels = {
        (name, label)
        for name, selector in _SELECTOR.findall(expression)
        for label in _LABEL.findall(selector)
        if name not in ADDED and label not in ADDED_LABELS
    }
    grouped = {
        label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")
    }

    assert names <= SAMPLES.keys()
    assert all(label in SAMPLES[name] for name, label in labels)
    assert all(grouped - ADDED_LABELS <= SAMPLES[name] for name in names)


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_alert_says_how_severe_it_is_and_what_to_do(rule: dict[str, Any]):
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text()

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert f"`{rule['alert']}`" in page
