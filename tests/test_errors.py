"""Errors: one tree in our words, and an answer to each in every dialect."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from starlette.requests import Request

import deploylog
from deploylog import errors
from deploylog.api import APIS
from deploylog.api.bluelink.errors import respond as bluelink_respond
from deploylog.api.escape.errors import respond as escape_respond
from deploylog.api.http.endpoint import Respond
from deploylog.api.native.errors import render_problem
from deploylog.api.native.errors import respond as native_respond
from deploylog.api.rfs.errors import MESSAGES
from deploylog.api.rfs.errors import respond as rfs_respond
from deploylog.errors import DeploylogError, InvalidInput


def tree(root: type[DeploylogError]) -> Iterator[type[DeploylogError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


EVERY = [error for error in tree(DeploylogError) if error.__module__ == errors.__name__]


def request() -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}})


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
async def test_every_error_has_an_answer_in_every_dialect(error: type[DeploylogError]):
    native = await native_respond(request(), error())
    rfs = await rfs_respond(request(), error())
    bluelink = await bluelink_respond(request(), error())
    escape = await escape_respond(request(), error())

    assert 400 <= native.status_code < 600
    assert 400 <= rfs.status_code < 600
    assert 400 <= bluelink.status_code < 600
    assert 400 <= escape.status_code < 600
    assert b"detail" in native.body
    assert any(code.encode() in rfs.body for code in MESSAGES)
    routed = error not in (errors.NotFound, errors.MethodNotAllowed)
    assert (b'{"message":' in bluelink.body) == routed
    assert escape.status_code not in (401, 403, 405, 500) or escape.body == b""


@pytest.mark.parametrize(
    "error", [e for e in EVERY if issubclass(e, InvalidInput)], ids=lambda error: error.__name__
)
async def test_bad_input_is_never_the_server_s_fault(error: type[InvalidInput]):
    assert (await native_respond(request(), error())).status_code < 500
    assert (await rfs_respond(request(), error())).status_code < 500
    assert (await bluelink_respond(request(), error())).status_code < 500
    assert (await escape_respond(request(), error())).status_code < 500


@pytest.mark.parametrize("respond", [native_respond, rfs_respond, bluelink_respond, escape_respond])
async def test_who_asks_too_often_is_told_when_to_come_back(respond: Respond):
    answer = await respond(request(), errors.TooMany(retry_after=2.1))

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"


EVERY_API = [api.respond for api in APIS]


@pytest.mark.parametrize("respond", EVERY_API, ids=[api.title for api in APIS])
@pytest.mark.parametrize(("error", "seconds"), [(errors.Overloaded, "1"), (errors.StoreFull, "5")])
async def test_a_service_that_cannot_record_says_when_to_come_back(
    respond: Respond, error: type[DeploylogError], seconds: str
):
    answer = await respond(request(), error())

    is_full = respond is native_respond and error is errors.StoreFull
    assert answer.status_code == (507 if is_full else 503)
    assert answer.headers["retry-after"] == seconds


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_without_a_message_an_error_says_its_docstring(error: type[DeploylogError]):
    assert error.__doc__
    assert error().message == error.__doc__.partition("\n")[0]
    assert error("so").message == "so"
    assert str(error("so")) == "so"


def test_what_is_at_fault_is_named():
    problem = render_problem(errors.InvalidEvent("line 3: no", field="type", line=3))

    assert (problem.field, problem.line, problem.title) == ("type", 3, "Invalid event")
    assert problem.type.endswith("invalid-event")


def test_the_tree_is_drawn_as_it_is():
    drawn = errors.__doc__ or ""

    for error in EVERY:
        assert error.__name__ in drawn, f"{error.__name__} is not in the drawing"


async def test_errors_of_other_modules_have_an_answer_too():
    for module in pkgutil.walk_packages(deploylog.__path__, "deploylog."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for error in set(tree(DeploylogError)) - set(EVERY):
        made = error.__new__(error)
        made.args = ("so",)
        assert made.message == "so"
