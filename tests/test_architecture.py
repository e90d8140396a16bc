"""The picture of the house, held: who may import whom, and what nobody may do."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import deploylog
import support.backends
from deploylog.store import BACKENDS
from support.syntax import parse_module

ROOT = Path(deploylog.__file__).parent
TESTS = Path(__file__).parent

#: Each room, and the others that it may import. The root holds the version.
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "errors": set(),
    "events": {"errors"},
    "deployments": {"errors", "events"},
    "ingest": {"errors", "events", "deployments"},
    "auth": {"errors", "events", "ingest"},
    "subscriptions": {"", "errors", "events", "deployments", "auth"},
    "store": {"errors", "events", "deployments", "subscriptions", "auth"},
    "api": {"", "errors", "events", "deployments", "subscriptions", "auth", "ingest"},
    "ui": {"", "errors", "events", "deployments", "subscriptions", "auth", "api"},
    "server": {
        "",
        "errors",
        "events",
        "deployments",
        "subscriptions",
        "auth",
        "store",
        "api",
        "ui",
    },
    "client": {"errors", "events", "deployments", "ingest"},
    "cli": {"", "errors", "events", "deployments", "auth", "ingest", "store", "server", "client"},
    "__main__": {"cli"},
}

#: The published APIs. What those of AWS share is beside them, in ``api.aws.stacks``.
APIS = (
    "api.native",
    "api.rfs",
    "api.bluelink",
    "api.escape",
    "api.aws.parallelcluster",
    "api.aws.cloudformation",
)

#: What the rooms are about: values and their rules, without input or output.
WORDS = (
    "errors", "events.event", "events.scope", "events.filters", "events.access", "events.ids",
    "events.times", "deployments.catalog", "deployments.projection", "deployments.changeset",
    "deployments.truncation", "subscriptions.subscription",
)  # fmt: skip


@cache
def names() -> list[str]:
    """Every module, below ``deploylog``: ``store.sqlite.append``, or the empty name of the root."""
    paths = [path.relative_to(ROOT).with_suffix("").parts for path in ROOT.rglob("*.py")]
    return sorted(".".join(p for p in parts if p != "__init__") for parts in paths)


@cache
def tree_of(name: str) -> ast.Module:
    path = ROOT.joinpath(*name.split(".")) if name else ROOT
    return parse_module(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


@cache
def imported(name: str) -> frozenset[str]:
    """The full names of what a module imports, as far as a module goes."""
    return frozenset(_imported(tree_of(name)))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "import by the full name"
            known = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [each for each in known if each.removeprefix("deploylog.") in names()]
            yield from modules
            if len(modules) < len(known):
                yield str(node.module)


def ours(name: str) -> set[str]:
    """The modules of ours that a module imports."""
    return {
        each.removeprefix("deploylog").removeprefix(".")
        for each in imported(name)
        if each.partition(".")[0] == "deploylog"
    }


def room_of(name: str) -> str:
    return name.partition(".")[0]


def rooms(name: str) -> set[str]:
    """The rooms that a module imports from, other than its own."""
    return {room_of(each) for each in ours(name)} - {room_of(name)}


def is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def packages(name: str) -> set[str]:
    """The packages that a module imports from, ours and others."""
    return {each.partition(".")[0] for each in imported(name)}


@pytest.mark.parametrize("name", names())
def test_a_module_imports_only_what_the_picture_allows(name: str):
    assert rooms(name) <= ALLOWED[room_of(name)]


def test_every_room_has_a_row_and_every_arrow_is_used():
    drawn = {room: set().union(*(rooms(n) for n in names() if room_of(n) == room))
             for room in {room_of(name) for name in names()}}  # fmt: skip

    assert drawn == ALLOWED


def test_there_are_at_most_twelve_rooms():
    assert len(set(ALLOWED) - {"", "__main__"}) <= 12


def test_the_rooms_make_no_circle():
    allowed = {room: set(others) for room, others in ALLOWED.items()}
    while leaves := {room for room, others in allowed.items() if not others & allowed.keys()}:
        allowed = {room: others for room, others in allowed.items() if room not in leaves}

    assert allowed == {}


def test_services_take_contracts_and_never_the_store():
    for name in names():
        if room_of(name) not in ("store", "server", "cli"):
            assert "store" not in rooms(name), name


def test_only_the_store_names_an_implementation():
    for name in names():
        if room_of(name) != "store":
            for backend in ("store.sqlite", "store.postgres"):
                assert not any(is_in(each, backend) for each in ours(name)), name


#: Who may know which backend a test runs on: its own tests, the table of backends, and this page.
BACKEND_TESTS = (
    "store/sqlite/", "store/postgres/", "support/backends.py", "support/postgres.py",
    "support/sqlite.py", "test_architecture.py",
)  # fmt: skip


def test_other_tests_run_on_any_backend():
    for path in TESTS.rglob("*.py"):
        name = path.relative_to(TESTS).as_posix()
        if name.startswith(BACKEND_TESTS):
            continue
        text = path.read_text(encoding="utf-8")
        assert "sqlite://" not in text, name
        assert "postgresql://" not in text, name
        for module in _imported(parse_module(path)):
            assert module.partition(".")[0] not in ("apsw", "sqlite3", "psycopg"), name
            assert not is_in(module, "deploylog.store.sqlite"), name
            assert not is_in(module, "deploylog.store.postgres"), name


def test_every_backend_is_tested():
    assert set(BACKENDS) == set(support.backends.BACKENDS)


def test_apis_do_not_know_each_other():
    for name in names():
        own = next((api for api in APIS if is_in(name, api)), None)
        if own is not None:
            others = [api for api in APIS if api != own]
            assert not any(is_in(each, api) for each in ours(name) for api in others), name


#: Who may name an API: the literal, the webhooks' link to the events of the log, and the pages,
#: whose addresses have the native API's queries.
NAMES_APIS = {("api", api) for api in APIS} | {
    ("server.delivery", "api.native"),
    ("server.fast_append", "api.native"),
    ("ui.pages.audit", "api.native"),
    ("ui.pages.changeset", "api.native"),
    ("ui.pages.compare", "api.native"),
    ("ui.pages.delivery", "api.native"),
    ("ui.pages.deployment", "api.native"),
    ("ui.pages.event", "api.native"),
    ("ui.pages.events", "api.native"),
    ("ui.search_text", "api.native"),
    ("ui.export", "api.native"),
    ("ui.pages.keys", "api.native"),
    ("ui.pages.new_subscription", "api.native"),
    ("ui.pages.now", "api.native"),
    ("ui.pages.resource", "api.native"),
    ("ui.pages.stack", "api.native"),
    ("ui.pages.subscription", "api.native"),
    ("ui.pages.subscriptions", "api.native"),
    ("ui.site", "api.native"),
}


def test_only_the_literal_names_an_api():
    naming = {
        (name, api)
        for name in names()
        for api in APIS
        if not is_in(name, api) and any(is_in(each, api) for each in ours(name))
    }

    assert naming == NAMES_APIS


def test_no_path_of_an_api_is_written_twice():
    written = Counter(
        node.value
        for name in names()
        if room_of(name) == "api"
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.match(r"/(log|v1|v3|api|internal)/[a-z{].*/", f"{node.value}/")
    )

    assert [path for path, number in written.items() if number > 1] == []
    assert len(written) > 10


def test_ingest_is_pure():
    impure = {"starlette", "asyncio", "aiohttp", "os", "socket", "pathlib", "time", "random"}

    for name in names():
        if room_of(name) == "ingest":
            assert not packages(name) & impure, name


#: The modules of an API that see requests or ask a service; its others are pure.
IMPURE = {"appends", "endpoints", "errors", "operations", "plan_files", "resume", "stack_recorder"}


def test_wire_modules_are_pure():
    """Those beside ``wire``, too, that a large API keeps what it says in."""
    modules = {n for n in names() for api in APIS if is_in(n, api) and n != api}
    packaged = {name for name in modules if (ROOT.joinpath(*name.split("."))).is_dir()}
    pure = {n for n in modules - packaged if n.rpartition(".")[2] not in IMPURE}
    services = {
        "events.service",
        "deployments.service",
        "api.http.event_stream",
        "api.http.body",
    }

    assert pure >= {f"{api}.wire" for api in APIS}
    for name in pure:
        assert not packages(name) & {"starlette", "asyncio", "os", "time", "socket"}, name
        assert not ours(name) & services, name


def test_the_words_need_only_msgspec():
    for name in WORDS:
        strangers = {"starlette", "asyncio", "apsw", "aiohttp", "typer", "rich"}
        assert not packages(name) & strangers, name


def test_the_web_framework_stays_at_the_edge():
    for name in names():
        if "starlette" in packages(name):
            assert room_of(name) in ("api", "ui", "server"), name


def test_nothing_is_imported_for_types_only():
    for name in names():
        for node in ast.walk(tree_of(name)):
            assert not (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"), name


#: Drivers that may be missing, what would slow down every command, as the settings of the APIs need
#: the APIs, and every start of the service: what calls others with aiohttp.
LATE = {("store", "_sqlite"), ("store", "_postgresql"), ("server.serve", "_event_loop"),
        ("cli.collect", "_open_cloudformation"), ("server.tracing", "make_tracing"),
        ("cli.options", "_setting"), ("cli.variables", "_names"),
        ("auth.bearer", "open_bearer_tokens"), ("auth.code_flow", "open_code_flow"),
        ("auth.sns", "fetch_from_sns"), ("server.delivery", "_webhook_transports")}  # fmt: skip


def test_nothing_is_imported_late_but_what_few_need():
    late = {
        (name, function.name)
        for name in names()
        for function in ast.walk(tree_of(name))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }

    assert late <= LATE


def test_the_environment_is_read_in_one_place():
    for name in names():
        if room_of(name) == "cli" or is_in(name, "server.settings"):
            continue
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("environ", "getenv"), name
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert not {a.name for a in node.names} & {"environ", "getenv"}, name


def test_every_module_is_named_for_a_thing():
    for name in names():
        last = name.rpartition(".")[2]
        assert last not in ("utils", "util", "helpers", "common", "misc", "shared"), name
        assert not last.startswith("base_") or last == "base_paths", name


def test_every_module_says_in_one_sentence_what_it_holds():
    for name in names():
        docstring = ast.get_docstring(tree_of(name))
        assert docstring, name
        assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), name


def test_the_root_holds_nothing_but_errors():
    files = {path.name for path in ROOT.glob("*.py")}

    assert files == {"__init__.py", "__main__.py", "errors.py"}


def test_apis_have_the_same_files():
    for api in APIS:
        files = {path.name for path in ROOT.joinpath(*api.split(".")).glob("*.py")}
        assert files >= {
            "__init__.py", "endpoints.py", "errors.py", "operations.py", "wire.py",
        }, api  # fmt: skip


def test_a_noun_keeps_its_contract():
    for room in ("events", "deployments", "subscriptions", "auth"):
        assert f"{room}.store" in names()
