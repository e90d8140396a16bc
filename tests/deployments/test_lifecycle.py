"""The lifecycle: the events that end a deployment, defined once for all rooms."""

import ast
from pathlib import Path

import pytest

import deploylog
from deploylog.deployments.lifecycle import (
    DEPLOYMENT_ENDS,
    DEPLOYMENT_LIFECYCLE,
    ends_deployment,
)
from deploylog.deployments.projection import DeploymentEnded, project
from support.factories import new_event
from support.syntax import parse_module

SCOPES = ("project/acme/stack/stack-1/deployment/dep-1",)


@pytest.mark.parametrize("type", DEPLOYMENT_LIFECYCLE)
def test_the_catalog_ends_a_deployment_with_the_same_events(type: str):
    change = project(new_event(type, scopes=SCOPES))

    assert isinstance(change, DeploymentEnded) == ends_deployment(type)
    if isinstance(change, DeploymentEnded):
        assert change.status == DEPLOYMENT_ENDS[type]


def test_no_other_module_lists_the_ends_of_a_deployment():
    ends = set(DEPLOYMENT_ENDS)

    for path in Path(deploylog.__file__).parent.rglob("*.py"):
        for node in ast.walk(parse_module(path)):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                texts = {item.value for item in node.elts if isinstance(item, ast.Constant)}
                assert not texts >= ends, path
