"""What a command line runs: which tool, which operation, and whether its output is Terraform's."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

_TERRAFORM = {"terraform": "terraform", "tofu": "opentofu", "terragrunt": "terragrunt"}
#: Those of which Terraform reports in JSON what they do.
_OPERATIONS = ("plan", "apply", "destroy", "refresh")
_JSON = ("-json", "--json")

#: Other tools, and the words of their command lines that are operations.
_OTHERS: dict[str, tuple[str, ...]] = {
    "ansible-playbook": (),
    "argocd": (),
    "cdk": ("deploy", "destroy", "diff"),
    "flux": ("reconcile",),
    "helm": ("install", "upgrade", "rollback", "uninstall", "diff"),
    "helmfile": ("apply", "sync", "destroy", "diff"),
    "kubectl": ("apply", "create", "delete", "diff", "patch", "replace", "rollout", "scale", "set"),
    "nomad": (),
    "pulumi": ("up", "update", "preview", "destroy", "refresh"),
    "sam": ("deploy", "delete"),
    "serverless": ("deploy", "remove"),
    "sls": ("deploy", "remove"),
}

#: Programs that run the command at the end of their arguments. Others may after ``--``.
_WRAPPERS = frozenset(
    {
        "asdf", "aws-vault", "caffeinate", "chamber", "chroot", "chrt", "command", "direnv", "doas",
        "docker", "doppler", "dotenv", "env", "envchain", "exec", "flock", "infisical", "ionice",
        "kubectl", "mise", "nice", "nohup", "numactl", "op", "pipenv", "podman", "poetry", "setsid",
        "sops", "ssh", "stdbuf", "strace", "sudo", "systemd-run", "taskset", "time", "timeout",
        "uv", "vault-env", "vaultenv", "xvfb-run",
    }
)  # fmt: skip

#: Programs whose arguments may have the names of tools and operations by chance.
_TASK_RUNNERS = frozenset({"echo", "gmake", "just", "make", "npm", "pnpm", "task", "yarn"})


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a command line runs."""

    tool: str
    operation: str | None
    #: Whether it reports in Terraform's JSON what it does.
    is_terraform: bool
    #: The command to run.
    command: tuple[str, ...]


def tool_call(command: Sequence[str]) -> ToolCall:
    """Recognize the tool, which may come after a wrapper; else it is the program that is run."""
    operation = _operation_index(command)
    if operation is not None:
        tool = next(i for i in range(operation - 1, -1, -1) if _name(command[i]) in _TERRAFORM)
        return ToolCall(
            tool=_TERRAFORM[_name(command[tool])],
            operation=command[operation],
            is_terraform=True,
            command=tuple(with_json(command)),
        )
    index = _tool_index(command)
    name = _name(command[index])
    return ToolCall(
        tool=_TERRAFORM.get(name, name) or command[index],
        operation=_other_operation(name, command[index + 1 :]),
        is_terraform=False,
        command=tuple(command),
    )


def operation_of(command: Sequence[str]) -> str | None:
    """Return ``apply`` for ``terraform -chdir=infra apply``; ``None`` for an unknown command."""
    return tool_call(command).operation


def with_json(command: Sequence[str]) -> list[str]:
    """Return the command with -json after its operation, if it is known and has none."""
    index = _operation_index(command)
    if index is None or any(word in _JSON for word in command):
        return list(command)
    return [*command[: index + 1], "-json", *command[index + 1 :]]


def _operation_index(command: Sequence[str]) -> int | None:
    """Return the index of Terraform's operation, which may come after a wrapper."""
    for index, word in enumerate(command):
        operation = _operation_after(command, index) if _name(word) in _TERRAFORM else None
        if operation is not None and _runs_command(command[:index]):
            return operation
    return None


def _operation_after(command: Sequence[str], tool: int) -> int | None:
    words = enumerate(command[tool + 1 :], tool + 1)
    if _name(command[tool]) == "terragrunt":
        # Its options may have values, and ``run`` or ``run --all`` may come before the operation.
        return next((index for index, word in words if word in _OPERATIONS), None)
    index = next((index for index, word in words if not word.startswith("-")), None)
    return index if index is not None and command[index] in _OPERATIONS else None


def _tool_index(command: Sequence[str]) -> int:
    """Return the index of a tool that is known, or else of the program behind wrappers."""
    for index, word in enumerate(command):
        is_known = _name(word) in _TERRAFORM or _other_operation(_name(word), command[index + 1 :])
        if (is_known or _name(word) in _OTHERS) and _runs_command(command[:index]):
            # ``kubectl exec`` runs another command, which may be known.
            if index == 0 and not is_known and _name(word) in _WRAPPERS:
                continue
            return index
    if _name(command[0]) == "env":
        words = (i for i, word in enumerate(command) if i and not _is_setting(word))
        return next(words, 0)
    if _name(command[0]) in _WRAPPERS and "--" in command[:-1]:
        return command.index("--") + 1
    return 0


def _is_setting(word: str) -> bool:
    return word.startswith("-") or "=" in word


def _other_operation(tool: str, words: Sequence[str]) -> str | None:
    """The operation of a known tool, also one of Terraform's of which it reports nothing."""
    if tool in _TERRAFORM:
        return next((word for word in words if not word.startswith("-")), None)
    return next((word for word in words if word in _OTHERS.get(tool, ())), None)


def _runs_command(wrapper: Sequence[str]) -> bool:
    """Whether these words run the command after them."""
    if not wrapper:
        return True
    names = [_name(word) for word in wrapper]
    if _TASK_RUNNERS.intersection(names):
        return False
    return wrapper[-1] == "--" or names[0] in _WRAPPERS


def _name(word: str) -> str:
    """Return the name of a program, from its path or from a container image."""
    return Path(word).name.partition(":")[0]
