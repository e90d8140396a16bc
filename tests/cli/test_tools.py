"""What a command line runs."""

import shlex

import pytest

from deploylog.cli.tools import tool_call


@pytest.mark.parametrize(
    ("line", "tool", "operation", "is_terraform"),
    [
        ("terraform apply", "terraform", "apply", True),
        ("env TF_IN_AUTOMATION=1 terraform plan", "terraform", "plan", True),
        ("aws-vault exec prod -- tofu destroy", "opentofu", "destroy", True),
        ("terragrunt run --all apply", "terragrunt", "apply", True),
        ("terraform init -input=false", "terraform", "init", False),
        ("helm upgrade --install web ./chart", "helm", "upgrade", False),
        ("helm --namespace web rollback web 3", "helm", "rollback", False),
        ("aws-vault exec prod -- helm uninstall web", "helm", "uninstall", False),
        ("kubectl apply -f .", "kubectl", "apply", False),
        ("kubectl exec ci -- helm upgrade web", "helm", "upgrade", False),
        ("/opt/bin/pulumi up --yes", "pulumi", "up", False),
        ("ansible-playbook site.yml", "ansible-playbook", None, False),
        ("env -i X=1 ./deploy.sh prod", "deploy.sh", None, False),
        ("sudo -u ci -- ./deploy.sh apply", "deploy.sh", None, False),
        ("sh -c 'helm upgrade web'", "sh", None, False),
        ("make apply", "make", None, False),
        ("true", "true", None, False),
    ],
)
def test_the_tool_and_its_operation_are_recognized(
    line: str, tool: str, operation: str | None, is_terraform: bool
):
    call = tool_call(shlex.split(line))

    assert (call.tool, call.operation, call.is_terraform) == (tool, operation, is_terraform)
