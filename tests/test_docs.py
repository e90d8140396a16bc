"""The documentation is true: it is complete, its links resolve, and its examples run."""

import ast
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

import msgspec
import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families

import deploylog
from deploylog import errors
from deploylog.api import APIS
from deploylog.api.aws.cloudformation.errors import ANSWERS as CLOUDFORMATION_ANSWERS
from deploylog.api.aws.cloudformation.errors import REFUSALS as CLOUDFORMATION_REFUSALS
from deploylog.api.aws.parallelcluster.errors import ANSWERS as PARALLELCLUSTER_ANSWERS
from deploylog.api.aws.parallelcluster.errors import REFUSALS as GATEWAY_REFUSALS
from deploylog.api.aws.stacks.stack_events import TYPES
from deploylog.api.escape.wire import EVENT_TYPES as ESCAPE_TYPES
from deploylog.api.http.endpoint import InternalError
from deploylog.api.native.errors import STATUSES, render_problem
from deploylog.api.native.plain_event import parse_plain_event
from deploylog.api.rfs.errors import ANSWERS, MESSAGES
from deploylog.api.rfs.wire import EVENT_TYPES
from deploylog.auth.bluelink import is_fresh, parse_signed, verify
from deploylog.auth.standard_webhooks import make_secret, parse_secret, signature_headers
from deploylog.cli import app
from deploylog.deployments.service import NewDeployment
from deploylog.errors import DeploylogError, OperatorError
from deploylog.events.cloudevents import Defaults, parse_batch, parse_event, parse_lines
from deploylog.events.scope import scope
from deploylog.server.metrics import Metrics
from deploylog.server.settings import load_settings
from deploylog.server.settings.table import SETTINGS, Setting
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind
from support.backends import store_url_at
from support.receivers import receiving
from support.servers import spawned
from support.waiting import until

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
INTEGRATIONS = ROOT / "integrations"
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted(INTEGRATIONS.rglob("*.md")),
)
SAMPLE = ROOT / "tests" / "samples" / "02-apply-create.jsonl"
PLAN = ROOT / "tests" / "samples" / "06-plan-show.json"
ADDRESS = "http://127.0.0.1:8325"

#: Seconds after which a command of the tour counts as failed.
TIMEOUT_SECONDS = 20

#: Defaults for the events of examples.
DEFAULTS = Defaults(time=0, source="/docs", scopes=(scope("docs"),))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def reference(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text()


def row_of(page: str, start: str) -> str:
    """The one table row whose first cell starts with ``start``."""
    rows = [line for line in page.splitlines() if line.startswith(f"| `{start}`")]
    assert len(rows) == 1, f"{start}: {rows}"
    return rows[0]


def section_of(page: str, heading: str) -> str:
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    [section] = [part for part in parts if part.partition("\n")[0] == heading]
    return section


def examples(language: str) -> list[tuple[str, str]]:
    """Every fenced block of the language, as page and text."""
    return [
        (str(page.relative_to(ROOT)), text)
        for page in PAGES
        for kind, text in _FENCE.findall(page.read_text())
        if kind == language
    ]


# Completeness


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_is_documented(setting: Setting):
    row = row_of(reference("settings"), setting.name)

    assert f"`{setting.option}`" in row
    assert f"`{setting.env}`" in row
    assert setting.help in row
    shown = row.split(" | ")[3].strip("`")
    assert load_settings({setting.name: shown}, environ={}, config=None) == load_settings(
        {}, environ={}, config=None
    )


def test_settings_are_documented_in_the_order_of_their_sections():
    documented = re.findall(r"^\| `(\w+)` \| `--", reference("settings"), re.MULTILINE)

    assert documented == [setting.name for setting in SETTINGS]


OPERATIONS = [operation for api in APIS for operation in api.operations]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_and_its_parameters_are_documented(operation):
    apis = {api.operations[0].tag for api in APIS if api.title != "Native API"}
    page = reference(f"{operation.tag if operation.tag in apis else 'native'}-api")

    assert f"{operation.method} {operation.path}" in page
    for parameter in operation.parameters:
        pattern = rf"[`?&{{]{re.escape(parameter.name)}[`=:}}]"
        assert re.search(pattern, page), f"{operation.id}: {parameter.name}"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_of_endpoint_is_documented(kind: EndpointKind):
    row = row_of(reference("sinks"), kind.name)

    for field in kind.fields:
        assert f"`{field}`" in row
        assert f"`{field}`" in section_of(reference("native-api"), "Subscriptions")
    assert f"`{kind.name}`" in row_of(section_of(reference("native-api"), "Subscriptions"), "kind")


def commands(command: Any, path: tuple[str, ...] = ("deploylog",)) -> Iterator[tuple[str, Any]]:
    yield " ".join(path), command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_are_documented(name: str):
    section = section_of(reference("cli"), name)

    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            assert f"`{(parameter.name or '').upper()}`" in section
            continue
        for option in (*parameter.opts, *parameter.secondary_opts):
            assert f"`{option}`" in section, option
        if parameter.envvar:
            assert f"`{parameter.envvar}`" in section, parameter.envvar
        if name != "deploylog":
            assert f"| {parameter.help} |" in section, parameter.help


def test_no_command_is_documented_that_does_not_exist():
    headings = re.findall(r"^## (.*)$", reference("cli"), re.MULTILINE)

    assert headings == list(COMMANDS)


def kinds(of: type[DeploylogError]) -> Iterator[type[DeploylogError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


SERVED = [
    kind
    for kind in kinds(DeploylogError)
    if kind.__module__ == errors.__name__
    and kind is not DeploylogError
    and not issubclass(kind, OperatorError)
]


@pytest.mark.parametrize("kind", [*SERVED, InternalError], ids=lambda kind: kind.__name__)
def test_a_problem_type_is_documented_with_its_status(kind: type[DeploylogError]):
    problem = render_problem(kind())

    row = row_of(reference("errors"), problem.type)

    assert row.split(" | ")[1] == str(problem.status)


def test_a_commands_own_errors_are_documented():
    for kind in OperatorError.__subclasses__():
        if kind.__module__ == errors.__name__:
            assert f"`{kind.__name__}`" in reference("errors")


@pytest.mark.parametrize("code", MESSAGES)
def test_an_rfs_code_is_documented_with_its_statuses(code: str):
    row = row_of(reference("errors"), code)

    statuses = {status for status, used in ANSWERS.values() if used == code} or {400}
    assert {int(status) for status in row.split(" | ")[1].split(", ")} == statuses


def test_every_status_is_one_that_the_page_explains():
    page = section_of(reference("errors"), "Native API")

    assert all(f"| {status} |" in page for status in STATUSES.values())


def test_rfs_event_types_are_documented():
    page = section_of(reference("rfs-api"), "Event types")

    for theirs in set(EVENT_TYPES.values()):
        row = row_of(page, theirs)
        for ours, its in EVENT_TYPES.items():
            if its == theirs:
                stem, _, phase = ours.rpartition(".")
                assert f"`{ours}`" in row or (f"`{stem}`" in row and f"`{phase}`" in row), ours


def test_the_errors_and_statuses_of_the_aws_apis_are_documented():
    gateway = section_of(reference("errors"), "ParallelCluster API")
    query = section_of(reference("errors"), "CloudFormation API")
    table = section_of(reference("parallelcluster-api"), "Synthesized events")

    assert all(f"| {status} |" in gateway for status, _ in PARALLELCLUSTER_ANSWERS.values())
    for error in CLOUDFORMATION_ANSWERS.values():
        assert str(error.status) in row_of(query, error.code).split(" | ")[1]
    for refusal in GATEWAY_REFUSALS.values():
        assert f"\n| 403 | `{refusal.type}` | " in gateway
    for refused in CLOUDFORMATION_REFUSALS.values():
        assert row_of(query, refused.code).split(" | ")[1] == str(refused.status)
    for type in TYPES:
        stem, _, phase = type.rpartition(".")
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{stem}.started`")]
        assert f"`{type}`" in row or f"`{phase}`" in row


@pytest.mark.parametrize("theirs", ESCAPE_TYPES)
def test_escape_event_types_are_documented(theirs: str):
    assert f"`{ESCAPE_TYPES[theirs]}`" in row_of(reference("escape-api"), theirs)
    assert f"`{ESCAPE_TYPES[theirs]}`" in reference("event-types")


def test_every_metric_is_documented():
    exposed = text_string_to_metric_families(Metrics().render().decode())
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in exposed
        if not family.name.endswith("_created")
    }

    documented = set(re.findall(r"^\| `(\w+)` \|", reference("metrics"), re.MULTILINE))

    assert documented == names


# Links


def slug(heading: str) -> str:
    words = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text())
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path):
    text = _FENCE.sub("", page.read_text())

    for target in _LINK.findall(text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_linked_from_the_index():
    linked = {
        (DOCS / target.partition("#")[0]).resolve()
        for target in _LINK.findall((DOCS / "index.md").read_text())
    }

    for page in sorted(DOCS.rglob("*.md")):
        assert page in linked or page.parent.name == "adr" or page.name == "index.md", page


def test_every_decision_is_in_the_index_once():
    index = DOCS / "adr" / "README.md"
    files = sorted(page.name for page in index.parent.glob("[0-9]*.md"))

    listed = [target for target in _LINK.findall(index.read_text()) if "/" not in target]

    assert listed == files
    for name in files:
        page = (index.parent / name).read_text()
        assert page.startswith(f"# {name[:4]}: ")
        headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"]


def test_the_changelog_has_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert "## [Unreleased]" in changelog or f"## [{deploylog.__version__}]" in changelog


def test_make_targets_in_the_documentation_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page


@pytest.mark.process
def test_make_help_shows_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^(?![.A-Z$])([\w-]+):(?!=)(.*)$", makefile, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)

    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert phony is not None
    assert sorted(phony[1].split()) == sorted(name for name, _ in targets)
    for name, rest in targets:
        assert " ## " in rest, name
        assert f"make {name} " in shown.stdout


# Examples


@pytest.mark.parametrize(("page", "text"), examples("json"))
def test_an_example_in_json_parses(page: str, text: str):
    value = json.loads(text)

    if isinstance(value, list):
        assert len(parse_batch(text.encode(), DEFAULTS, limit=100)) == len(value)
    elif "specversion" in value:
        parse_event(text.encode(), DEFAULTS)
    elif "type" in value and "project" in value:
        parse_plain_event(text.encode())
    elif "stack" in value and not {"status", "checkpoint"} & value.keys():
        msgspec.json.decode(text, type=NewDeployment)


@pytest.mark.parametrize(("page", "text"), examples("ndjson"))
def test_an_example_in_ndjson_parses(page: str, text: str):
    assert len(parse_lines(text.encode(), DEFAULTS, limit=100)) == len(text.splitlines())


@pytest.mark.parametrize(("page", "text"), examples("toml"))
def test_an_example_of_a_settings_file_loads(page: str, text: str, tmp_path: Path):
    file = tmp_path / "deploylog.toml"
    file.write_text(text)

    assert load_settings({}, environ={}, config=file)


@pytest.mark.parametrize(("page", "text"), examples("python"))
def test_an_example_in_python_compiles(page: str, text: str):
    ast.parse(text)


def test_the_signature_in_the_example_is_valid():
    page = (DOCS / "how-to" / "authenticate.md").read_text()
    [example] = [text for _, text in _FENCE.findall(page) if 'Bluelink-Signature-V1":' in text]
    namespace: dict[str, Any] = {}

    exec(example, namespace)

    signed = parse_signed({name.lower(): value for name, value in namespace["headers"].items()})
    assert signed is not None
    assert verify(signed, namespace["secret"])
    assert is_fresh(signed, namespace["date"])
    assert f"`{namespace['signature']}`" in page


def test_the_receiver_in_the_example_verifies_our_signatures():
    page = (DOCS / "how-to" / "receive-webhooks.md").read_text()
    example, _ = [text for language, text in _FENCE.findall(page) if language == "python"]
    namespace: dict[str, Any] = {}
    new, old, other = (make_secret() for _ in range(3))
    keys = [parse_secret(new), parse_secret(old)]
    headers = signature_headers("id", 1_795_000_000 * 10**9, b"body", keys)

    exec(example, namespace)

    verify_webhook = namespace["verify"]
    assert verify_webhook(new, headers, b"body", now=1_795_000_299)
    assert verify_webhook(old, headers, b"body", now=1_795_000_000)
    assert not verify_webhook(other, headers, b"body", now=1_795_000_000)
    assert not verify_webhook(new, headers, b"bodY", now=1_795_000_000)
    assert not verify_webhook(new, headers, b"body", now=1_795_000_301)


def test_the_headers_of_a_webhook_are_documented():
    page = reference("webhooks")
    files = ("subscriptions/delivery/kinds/webhook", "auth/standard_webhooks")
    source = "".join((ROOT / "src/deploylog" / f"{name}.py").read_text() for name in files)

    named = set(re.findall(r'"((?:deploylog|webhook)-[a-z-]+)"', source))

    assert len(named) == 9
    assert all(f"`{name}`" in page for name in named)


@pytest.mark.parametrize(("page", "text"), examples("sh"))
def test_a_command_in_an_example_has_the_options_that_it_uses(page: str, text: str):
    for line in text.replace("\\\n", " ").splitlines():
        for words in re.findall(r"(?:^|\$\(|\| |/bin/)deploylog ([^|)#]*)", line.strip()):
            _check_options(words.partition(" -- ")[0].split())


def _check_options(words: list[str]) -> None:
    command = COMMANDS["deploylog"]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--") and word != "--":
            assert word in known, f"{command.name}: {word}"


class Tour:
    """A shell that runs the README's commands against a service."""

    def __init__(self, directory: Path, url: str = "") -> None:
        #: The URL of the service.
        self.url = url
        self._directory = directory
        self._environment = {
            "HOME": str(directory),
            "PATH": f"{directory / 'bin'}:{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        }
        tool = directory / "bin" / "terraform"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\n[ $1 = show ] && exec cat '{PLAN}'\nexec cat '{SAMPLE}'\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    def run(self, text: str) -> str:
        """Run the block and return its output."""
        with self._started(text) as shell:
            output, errors = shell.communicate(timeout=TIMEOUT_SECONDS)
        assert shell.returncode == 0, errors
        return output

    def follow(self, text: str, *, until: str) -> str:
        """Run the block and return its output up to a line with ``until``, then stop it."""
        with self._started(text) as shell:
            assert shell.stdout is not None
            output = ""
            for line in shell.stdout:
                output += line
                if until in line:
                    break
            else:
                raise AssertionError(f"{until!r} is not in {output!r}")
        return output

    @contextmanager
    def _started(self, text: str) -> Iterator[subprocess.Popen[str]]:
        """Run the block in a shell; the shell and its children stop with the context."""
        shell = subprocess.Popen(
            ["bash", "-c", text.replace(ADDRESS, self.url)],
            cwd=self._directory,
            env=self._environment | {"DEPLOYLOG_SERVER": self.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        watchdog = Timer(TIMEOUT_SECONDS, _terminate, [shell])
        watchdog.start()
        try:
            with shell:
                yield shell
                _terminate(shell)
        finally:
            watchdog.cancel()


def _terminate(shell: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGTERM)


async def test_the_tour_in_the_readme_runs(tmp_path: Path):
    assert shutil.which("curl"), "the tour needs curl"
    section = section_of((ROOT / "README.md").read_text(), "Five minutes")
    blocks = [text for language, text in _FENCE.findall(section) if language == "sh"]
    install, path, serve, *blocks = blocks
    folder, pip = install.splitlines()
    assert folder == "python3 -m venv ~/.deploylog"
    assert pip == "~/.deploylog/bin/pip install '.[server]'"
    assert path == 'export PATH="$HOME/.deploylog/bin:$PATH"\n'
    assert serve == "deploylog serve\n"
    any_tool, listing, tail, *later = blocks
    outage, run, plan, stream, resume, rfs, wait, again, keys, webhook = later
    assert again == "deploylog serve --delivery-allowed-networks 127.0.0.1/32\n"
    tour = Tour(tmp_path)
    async with (
        receiving() as receiver,
        spawned(
            store_url_at(tmp_path / "deploylog.db"),
            delivery_allowed_networks="127.0.0.1/32",
        ) as service,
    ):
        tour.url = service.url

        shown = tour.run(any_tool)
        deployments = tour.run(listing)
        tour.follow(tail, until="deployment.completed")
        stepped = tour.run(outage.replace("sleep 5", "true"))
        applied = tour.run(run)
        planned = tour.run(plan)
        streamed = tour.follow(stream, until="event: deployment.completed")
        resumed = tour.follow(resume, until="event: deployment.completed")
        listed = json.loads(tour.run(rfs))
        waited = tour.run(wait)
        allowed = tour.run(keys)
        subscribed = tour.run(keys + webhook.replace("http://127.0.0.1:9000", receiver.url))
        await until(lambda: any(b'"deployment.completed"' in body for _, body in receiver.requests))

    assert shown == "copying\ndone\n"
    assert re.search(r"web +prod +([0-9a-f]{8} +)?completed", deployments)
    assert stepped.endswith("step 5\nstep 6\n")
    assert "Apply complete! Resources: 9 added" in applied
    assert planned.endswith("Plan: 6 to add, 2 to change, 5 to destroy.\n")
    assert streamed.startswith("retry: ")
    assert "event: stack.created" not in resumed
    assert [event["event_type"] for event in listed["stack_events"]] == ["LOG"] * 3
    assert "completed" in waited
    assert "changeset.completed" in allowed
    assert "secret: whsec_" in subscribed
    assert subscribed.count("ops") == 1
    assert b'"stack.created"' in receiver.requests[0][1]


async def test_staging_without_bluelinks_cli_runs(tmp_path: Path):
    page = (DOCS / "how-to" / "stage-with-bluelink.md").read_text()
    section = section_of(page, "Follow without the CLI")
    _, stage, *rest = [text for language, text in _FENCE.findall(section) if language == "sh"]
    plans = tmp_path / "plans"
    plans.mkdir()
    shutil.copy(PLAN, plans / "plan.json")

    store = store_url_at(tmp_path / "deploylog.db")
    async with spawned(store, plan_folders=str(plans)) as service:
        tour = Tour(tmp_path, service.url)
        id = tour.run(stage.replace("/srv/plans", str(plans))).strip()
        recent, everything, resumed, whole = [tour.run(f"ID={id}\n{text}") for text in rest]

    assert everything == recent
    assert everything.endswith(resumed)
    assert everything.count("event: ") == resumed.count("event: ") + 1
    assert resumed.count("event: changeStagingComplete") == 1
    assert json.loads(whole)["status"] == "CHANGES_STAGED"
