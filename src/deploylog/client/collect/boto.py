"""CloudFormation through boto3, an optional dependency: only ``cli.collect`` imports this."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as NotConnected
from botocore.parsers import ResponseParserError

from deploylog.client.collect.cloudformation import (
    CloudFormationError,
    FoundStack,
    Page,
    StackNotFound,
    Throttled,
)
from deploylog.errors import OperatorError
from deploylog.ingest.cloudformation.parsing import parse_stack_event

_T = TypeVar("_T")

#: The codes with which AWS's services throttle.
_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "RequestTimeout",
        "RequestTimeoutException",
    }
)

#: No response, or not one of AWS: from a proxy, for example, in which botocore finds no result.
_NO_RESPONSE = (HTTPClientError, NotConnected, IncompleteReadError, ResponseParserError, KeyError)

#: The collector retries instead: it logs retries and can be interrupted.
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 1},
    user_agent_extra="deploylog",
)


class BotoCloudFormation:
    """See ``CloudFormation``. It uses boto3's credentials, and its region unless one is given.

    Each call has a thread of its own, so that an interrupt does not wait for it.
    """

    def __init__(self, region: str | None) -> None:
        try:
            session = boto3.session.Session(region_name=region)
            self._client: Any = session.client("cloudformation", config=_CONFIG)
        except (BotoCoreError, ValueError) as error:
            raise OperatorError(f"cannot use CloudFormation: {_first_line(error)}") from error

    async def find(self, stack: str) -> FoundStack | None:
        try:
            response = await _call(lambda: self._client.describe_stacks(StackName=stack))
        except StackNotFound:
            return None
        for found in response.get("Stacks", ()):
            tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
            return FoundStack(arn=found["StackId"], status=found["StackStatus"], tags=tags)
        return None

    async def page(self, arn: str, token: str | None) -> Page:
        parameters = {"StackName": arn} | ({"NextToken": token} if token is not None else {})
        response = await _call(lambda: self._client.describe_stack_events(**parameters))
        events = tuple(parse_stack_event(event) for event in response.get("StackEvents", ()))
        return Page(events=events, next=response.get("NextToken") or None)


async def _call(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return AWS's response; raises the errors that ``CloudFormation`` names, or OperatorError."""
    try:
        return await _in_thread(call)
    except (ClientError, BotoCoreError, ResponseParserError, KeyError) as error:
        raise _translated(error) from error


def _is_missing(error: ClientError) -> bool:
    details = error.response.get("Error", {})
    code, message = details.get("Code"), details.get("Message", "")
    return code == "ValidationError" and "does not exist" in message


def _translated(error: Exception) -> Throttled | CloudFormationError | OperatorError:
    if isinstance(error, _NO_RESPONSE):
        return Throttled(f"no response from CloudFormation ({_first_line(error)})")
    if not isinstance(error, ClientError):
        # No credentials, no region, a profile that does not exist.
        return OperatorError(f"cannot use CloudFormation: {_first_line(error)}")
    if _is_missing(error):
        return StackNotFound(error.response["Error"]["Message"])
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    details = error.response.get("Error", {})
    message = f"CloudFormation: {details.get('Code')}: {details.get('Message')}"
    if details.get("Code") in _THROTTLED or status == 429 or status >= 500:
        after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
        seconds = float(after) if after.isascii() and after.isdigit() else None
        return Throttled(message, retry_after=seconds)
    return CloudFormationError(message)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Call in a daemon thread: unlike an executor's, the process does not wait for it at exit."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: _T | None = None
        failure: Exception | None = None
        try:
            result = call()
        except Exception as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            # The loop is closed: the caller was interrupted.
            return

    threading.Thread(target=work, daemon=True, name="cloudformation").start()
    return await outcome
