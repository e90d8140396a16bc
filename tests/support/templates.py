"""The templates of ``integrations/`` as their tools use them."""

import json
from pathlib import Path
from typing import Any

import yaml
from regopy import Interpreter

from support.go_template import render

INTEGRATIONS = Path(__file__).parent.parent.parent / "integrations"
SHA = "9f2c1e7ab34d56ef9f2c1e7ab34d56ef9f2c1e7a"


def read(name: str) -> Any:
    """The only document of a YAML file."""
    return yaml.safe_load((INTEGRATIONS / name).read_text())


class ArgoCd:
    """The notifications of one application, as the ConfigMap renders them."""

    def __init__(self) -> None:
        self._data = read("argocd/argocd-notifications-cm.yaml")["data"]

    def event(self, name: str, **state: Any) -> dict[str, Any]:
        """The body that a template makes of the state of the application's sync."""
        template = yaml.safe_load(self._data[f"template.deploylog-{name}"])
        webhook = template["webhook"]["deploylog"]
        assert (webhook["method"], webhook["path"]) == ("POST", "/log/v1/events")
        found: dict[str, Any] = json.loads(render(webhook["body"], self._values(state)))
        return found

    @property
    def triggers(self) -> set[str]:
        """What is sent by some trigger."""
        rules = [yaml.safe_load(v) for k, v in self._data.items() if k.startswith("trigger.")]
        return {name for rule in rules for each in rule for name in each["send"]}

    @property
    def templates(self) -> set[str]:
        return {k.removeprefix("template.") for k in self._data if k.startswith("template.")}

    def _values(self, state: dict[str, Any]) -> dict[str, Any]:
        operation = {
            "startedAt": "2026-03-01T12:00:00Z",
            "operation": {"initiatedBy": {"username": "alice"}, "sync": {"revision": SHA}},
            "message": 'successfully "synced"',
            "syncResult": {"revision": SHA},
            **state,
        }
        return {
            "app": {
                "metadata": {"name": "web", "uid": "4be37088"},
                "spec": {"source": {"repoURL": "https://github.com/acme/web"}},
                "status": {"operationState": operation},
            },
            "context": yaml.safe_load(self._data["context"]),
        }


def spacelift(state: str, **fields: Any) -> list[dict[str, Any]]:
    """What the policy sends of a run that is in this state."""
    rego = Interpreter()
    rego.add_module("policy", (INTEGRATIONS / "spacelift" / "notification-policy.rego").read_text())
    run = {
        "id": "01EF9PFPNF",
        "type": "TRACKED",
        "state": state,
        "triggered_by": "alice",
        "updated_at": 1_772_366_400_000_000_000,
        "commit": {"hash": SHA},
        **fields,
    }
    rego.set_input(
        {
            "account": {"name": "acme"},
            "run_updated": {
                "state": state,
                "run": run,
                "stack": {"id": "network", "labels": ["team:core", "environment:prod"]},
                "urls": {"run": "https://acme.app.spacelift.io/stack/network/run/01EF9PFPNF"},
            },
            "webhook_endpoints": [{"id": "deploylog", "labels": []}, {"id": "other"}],
        }
    )
    found = json.loads(str(rego.query("[each | data.spacelift.webhook[each]]")))
    return list(found["expressions"][0])
