"""CloudFormation by boto3, which not everybody installs: only ``cli.collect`` imports this."""

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

#: What AWS's services call it when they are asked too often.
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

#: No answer, or none of AWS's own: some proxy's, say, in which botocore finds no result.
_SILENCE = (HTTPClientError, NotConnected, IncompleteReadError, ResponseParserError, KeyError)

#: Trying again is the collector's business, which says so and can be interrupted.
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 1},
    user_agent_extra="deploylog",
)


class BotoCloudFormation:
    """See ``CloudFormation``. Each call has a thread, so that nobody waits for it in vain."""

    def __init__(self, region: str | None) -> None:
        """Use boto3's own credentials, and its region unless one is named."""
        try:
            session = boto3.session.Session(region_name=region)
            self._client: Any = session.client("cloudformation", config=_CONFIG)
        except (BotoCoreError, ValueError) as error:
            raise OperatorError(f"cannot use CloudFormation: {_line(error)}") from error

    async def find(self, stack: str) -> FoundStack | None:
        try:
            answer = await _ask(lambda: self._client.describe_stacks(StackName=stack))
        except StackNotFound:
            return None
        for found in answer.get("Stacks", ()):
            tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
            return FoundStack(arn=found["StackId"], status=found["StackStatus"], tags=tags)
        return None

    async def page(self, arn: str, token: str | None) -> Page:
        asked = {"StackName": arn} | ({"NextToken": token} if token is not None else {})
        answer = await _ask(lambda: self._client.describe_stack_events(**asked))
        events = tuple(parse_stack_event(event) for event in answer.get("StackEvents", ()))
        return Page(events=events, next=answer.get("NextToken") or None)


async def _ask(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What AWS answers; raises our errors."""
    try:
        return await _threaded(call)
    except (ClientError, BotoCoreError, ResponseParserError, KeyError) as error:
        raise _ours(error) from error


def _is_missing(error: ClientError) -> bool:
    told = error.response.get("Error", {})
    return told.get("Code") == "ValidationError" and "does not exist" in told.get("Message", "")


def _ours(error: Exception) -> Throttled | CloudFormationError | OperatorError:
    if isinstance(error, _SILENCE):
        return Throttled(f"CloudFormation does not answer ({_line(error)})")
    if not isinstance(error, ClientError):
        # No credentials, no region, a profile that does not exist.
        return OperatorError(f"cannot use CloudFormation: {_line(error)}")
    if _is_missing(error):
        return StackNotFound(error.response["Error"]["Message"])
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    told = error.response.get("Error", {})
    message = f"CloudFormation: {told.get('Code')}: {told.get('Message')}"
    if told.get("Code") in _THROTTLED or status == 429 or status >= 500:
        after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
        seconds = float(after) if after.isascii() and after.isdigit() else None
        return Throttled(message, retry_after=seconds)
    return CloudFormationError(message)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


async def _threaded(call: Callable[[], _T]) -> _T:
    """``call`` in a thread that nothing waits for at the end, unlike those of an executor."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if answered.done():
            return
        if error is not None:
            answered.set_exception(error)
        else:
            answered.set_result(result)  # type: ignore[arg-type]

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
            # The loop is closed: whoever asked has been interrupted.
            return

    threading.Thread(target=work, daemon=True, name="cloudformation").start()
    return await answered
