"""Publishes numbered events, each with the time it was sent at, one connection, in order.

It runs in a process of its own, so that it does not wait for a thousand readers.
"""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import msgspec

from bench.http1 import HOST, UnexpectedAnswer, post
from bench.samples import NDJSON

_TIMEOUT_SECONDS = 60
#: Requests in flight at once; Deploylog refuses more than 256 on a connection.
_AHEAD = 200


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How many events to publish, and how."""

    path: str
    events: int
    #: Events a second; none means as fast as they are accepted.
    pace: float | None = None
    events_a_request: int = 1
    #: Send requests before earlier ones are answered.
    pipelined: bool = False


@contextmanager
def publishing(port: int, plan: Plan) -> Iterator[None]:
    """Publish while the block runs; raises UnexpectedAnswer unless every event was accepted."""
    process = multiprocessing.get_context("spawn").Process(target=_publish, args=(port, plan))
    process.start()
    yield
    process.join(_TIMEOUT_SECONDS)
    if process.exitcode != 0:
        process.kill()
        raise UnexpectedAnswer("not every event could be published")


def _publish(port: int, plan: Plan) -> None:
    with socket.create_connection((HOST, port), timeout=_TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        requests = _requests(plan)
        first = list(islice(requests, _AHEAD if plan.pipelined else 0))
        connection.sendall(b"".join(first))
        answers = _answers(connection)
        for request in requests:
            if first:
                next(answers)
            connection.sendall(request)
            if not first:
                next(answers)
        for _ in first:
            next(answers)


def _requests(plan: Plan) -> Iterator[bytes]:
    start = time.monotonic()
    for first in range(0, plan.events, plan.events_a_request):
        if plan.pace:
            time.sleep(max(0.0, start + first / plan.pace - time.monotonic()))
        numbers = range(first, first + plan.events_a_request)
        yield post(plan.path, b"\n".join(map(_event, numbers)), NDJSON)


def _event(number: int) -> bytes:
    """Some 300 B."""
    address = f"module.platform.aws_instance.web[{number}]"
    event = {
        "id": f"bench/{number}",
        "type": "resource.create.completed",
        "source": "terraform",
        "actor": "alice",
        "resourcetype": "aws_instance",
        "resourcename": "web",
        "message": f"{address}: Creation complete after 12s [id=i-0{number:016x}]",
        "data": {"seq": f"{number:06}", "sent": str(time.time_ns())},
    }
    return msgspec.json.encode(event)


def _answers(connection: socket.socket) -> Iterator[None]:
    """Yield at each answer, a good one."""
    received = b""
    while True:
        data = connection.recv(1 << 16)
        if not data:
            raise UnexpectedAnswer("the server closed the connection")
        received += data
        while answer_end := _end_of_answer(received):
            if received[9:11] != b"20":
                raise UnexpectedAnswer(repr(received[:300]))
            received = received[answer_end:]
            yield


def _end_of_answer(received: bytes) -> int:
    head, end, body = received.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    if not end or len(body) < int(length):
        return 0
    return len(head) + len(end) + int(length)
