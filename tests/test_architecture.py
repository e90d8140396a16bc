"""The picture of the house, held: who may import whom, and what nobody may do."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import deploylog

ROOT = Path(deploylog.__file__).parent

#: Of modules in a folder, the part that the picture shows.
DIALECTS = (
    "dialects.native",
    "dialects.rfs",
    "dialects.bluelink",
    "dialects.escape",
    "dialects.parallelcluster",
    "dialects.cloudformation",
)
PARTS = ("store.base", "store.migrate", "store.sqlite", *DIALECTS)

CORE = {
    "errors", "events", "scope", "filters", "principals", "catalogue", "changes", "cursor",
    "times", "stackstatus", "subscriptions",
}  # fmt: skip
DIALECT = {"dialects.operations", "dialects.parts"}

#: Each part, and the others of ours that it may import. Its own modules it may import anyway.
ALLOWED: dict[str, set[str]] = {
    # Core: it imports nothing of ours but itself.
    "": set(),
    "errors": set(),
    "times": {"errors"},
    "scope": {"errors"},
    "cursor": {"errors"},
    "events": {"errors", "scope"},
    "filters": {"events", "scope"},
    "principals": {"errors", "events", "scope"},
    "changes": {"scope"},
    "stackstatus": {"events"},
    "subscriptions": {"filters", "scope"},
    "catalogue": {"changes", "errors", "events", "scope"},
    # Engine.
    "store.base": CORE,
    "store.migrate": {"errors"},
    "store.sqlite": {*CORE, "store.base", "store.migrate", "shares"},
    "store": {"errors", "store.base", "store.sqlite"},
    "hub": {*CORE, "store.base", "shares"},
    "chronology": {"events", "store.base", "times"},
    "following": {"errors", "hub", "principals"},
    "service": {*CORE, "store.base", "hub", "following"},
    "abridging": {"changes"},
    "staging": {*CORE, "store.base", "abridging"},
    "cleaning": {*CORE, "store.base"},
    "subscribing": {*CORE, "store.base"},
    "planfiles": {"errors"},
    "rate": set(),
    "shares": set(),
    "auth": {
        "errors", "events", "ingest", "principals", "rate", "scope", "store.base", "times",
    },
    # Ways in.
    "ingest": CORE,
    # Ways out.
    "sse": {"events", "hub"},
    "delivery": {"", *CORE, "store.base", "hub", "rate"},
    "bodies": {"errors"},
    "dialects.stackviews": {*CORE, "chronology", "service", "store.base"},
    "dialects.parts": {
        "bodies", "cleaning", "dialects.stackviews", "ingest", "planfiles", "principals",
        "service", "staging", "subscribing",
    },
    "dialects.operations": set(),
    "dialects.envelope": {"auth", "bodies", "errors", "principals", "dialects.parts"},
    "dialects.native": {
        *CORE, *DIALECT, "service", "staging", "subscribing", "hub", "store.base", "sse", "bodies",
        "ingest",
    },
    "dialects.bluelink": {
        *CORE, *DIALECT, "service", "staging", "cleaning", "planfiles", "hub", "store.base", "sse",
        "bodies", "ingest", "abridging",
    },
    "dialects.rfs": {*CORE, *DIALECT, "chronology", "service", "store.base", "bodies"},
    "dialects.escape": {*CORE, *DIALECT, "store.base", "bodies", "subscribing"},
    "dialects.parallelcluster": {*CORE, *DIALECT, "dialects.stackviews"},
    "dialects.cloudformation": {*CORE, *DIALECT, "dialects.stackviews", "bodies"},
    "dialects": {
        *DIALECT, "auth", "errors", "dialects.envelope", "dialects.native", "dialects.rfs",
        "dialects.bluelink", "dialects.escape", "dialects.parallelcluster",
        "dialects.cloudformation",
    },
    "openapi": {"", "dialects", "dialects.operations", "dialects.native"},
    # Edges.
    "settings": {"errors"},
    "telemetry": set(),
    "asgi": {
        *CORE, "store.base", "hub", "service", "auth", "dialects", "dialects.parts",
        "dialects.escape", "dialects.native", "dialects.stackviews", "bodies", "openapi",
        "settings", "telemetry", "basepaths", "cleaning", "following", "planfiles", "rate",
        "staging", "subscribing", "delivery",
    },
    "basepaths": set(),
    "server": {"asgi", "auth", "errors", "settings", "store", "telemetry"},
    "admin": {"auth", "errors", "principals", "store", "store.base", "subscriptions"},
    # The other side: HTTP only.
    "client": {"catalogue", "changes", "errors", "times"},
    "spool": {"client", "errors"},
    "feed": {*CORE, "client", "ingest", "spool"},
    "collect": {*CORE, "client", "ingest"},
    "cli": {
        "", *CORE, "abridging", "admin", "client", "collect", "feed", "ingest", "server",
        "settings", "spool", "store.base",
    },
    "__main__": {"cli"},
}  # fmt: skip


@cache
def names() -> list[str]:
    """Every module, below ``deploylog``: ``store.sqlite.log``, or the empty name for the root."""
    paths = [path.relative_to(ROOT).with_suffix("").parts for path in ROOT.rglob("*.py")]
    return sorted(".".join(p for p in parts if p != "__init__") for parts in paths)


@cache
def tree_of(name: str) -> ast.Module:
    path = ROOT.joinpath(*name.split(".")) if name else ROOT
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of what is imported, as far as a module goes."""
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


def part_of(name: str) -> str:
    """The part of the picture that a module of ours is in."""
    for part in (*PARTS, *(part for part in ALLOWED if "." in part)):
        if name == part or name.startswith(f"{part}."):
            return part
    return name.partition(".")[0]


def ours(name: str) -> set[str]:
    """The parts that a module imports, other than its own."""
    parts = {
        part_of(each.removeprefix("deploylog").removeprefix("."))
        for each in imported(tree_of(name))
        if each.partition(".")[0] == "deploylog"
    }
    return parts - {part_of(name)}


@pytest.mark.parametrize("name", names())
def test_a_module_imports_only_what_the_picture_allows(name: str):
    assert ours(name) <= ALLOWED[part_of(name)]


def test_no_part_of_the_picture_is_stale():
    there = {part_of(name) for name in names()}
    used = {part for name in names() for part in ours(name)}

    assert set(ALLOWED) == there
    assert used <= there


def test_the_parts_make_no_circle():
    allowed = {part: set(others) for part, others in ALLOWED.items()}
    while leaves := {part for part, others in allowed.items() if not others & allowed.keys()}:
        allowed = {part: others for part, others in allowed.items() if part not in leaves}

    assert allowed == {}


def test_only_open_store_names_an_implementation():
    for name in names():
        if part_of(name) not in ("store", "store.sqlite"):
            assert "store.sqlite" not in ours(name), name


def test_dialects_know_neither_stores_nor_each_other():
    for name in names():
        part = part_of(name)
        if part in DIALECTS:
            others = {*DIALECTS, "store", "store.sqlite"} - {part}
            assert not ours(name) & others, name


def _outside(name: str) -> set[str]:
    return {each.partition(".")[0] for each in imported(tree_of(name))}


def test_ingest_is_pure():
    impure = {"starlette", "asyncio", "aiohttp", "os", "socket", "pathlib", "time", "random"}

    for name in names():
        if part_of(name) == "ingest":
            assert not _outside(name) & impure, name


#: The modules of a dialect that see requests or ask the service; its others are pure.
IMPURE = {"errors", "ingest_routes", "operations", "routes", "stack_notices", "streams"}


def test_wire_modules_are_pure():
    """Those beside ``wire``, too, that a large dialect keeps what it says in."""
    modules = {name for name in names() if part_of(name) in DIALECTS} - set(DIALECTS)
    pure = {name for name in modules if name.rpartition(".")[2] not in IMPURE}

    assert pure >= {f"{dialect}.wire" for dialect in DIALECTS}
    for name in pure:
        assert not _outside(name) & {"starlette", "asyncio", "os", "time", "socket"}, name
        assert not ours(name) & {"service", "store", "store.sqlite", "sse", "bodies"}, name


def test_the_core_needs_only_msgspec():
    for name in CORE:
        strangers = _outside(name) & {"starlette", "asyncio", "apsw", "aiohttp", "typer", "rich"}
        assert not strangers, name


def test_the_web_framework_stays_at_the_edge():
    edge = {"asgi", "sse", "bodies", "dialects", "dialects.parts", "dialects.envelope",
            "basepaths", *DIALECTS}  # fmt: skip

    for name in names():
        if "starlette" in _outside(name):
            assert part_of(name) in edge, name


def test_nothing_is_imported_for_types_only():
    for name in names():
        for node in ast.walk(tree_of(name)):
            assert not (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"), name


#: Drivers that may be missing.
LATE = {("store", "open_store"), ("store", "migrate_store"), ("store", "backup_store"),
        ("store", "restore_store"), ("store", "verify_store"), ("server", "_event_loop"),
        ("cli.collect", "_open_cloudformation")}  # fmt: skip


def test_nothing_is_imported_late_but_optional_drivers():
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
        if part_of(name) in ("cli", "settings"):
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
        assert not last.startswith("base_"), name


def test_every_module_says_in_one_sentence_what_it_holds():
    for name in names():
        docstring = ast.get_docstring(tree_of(name))
        assert docstring, name
        assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), name


def test_the_root_stays_small():
    assert len(list(ROOT.glob("*.py"))) <= 32


def test_dialects_have_the_same_files():
    folders = [path for path in (ROOT / "dialects").iterdir() if (path / "wire.py").exists()]

    for folder in folders:
        files = {path.name for path in folder.glob("*.py")}
        assert files >= {"__init__.py", "errors.py", "operations.py", "routes.py", "wire.py"}
