"""The rows of deployments, as far as they are alike in every backend."""

from typing import Any

import msgspec

from deploylog.deployments.catalog import Outcome
from deploylog.deployments.details import Details

#: The details of a deployment, from what ``details_text`` made.
decode_details = msgspec.json.Decoder(Details).decode


def details_text(details: Details) -> str:
    """The details as JSON."""
    return msgspec.json.encode(details).decode()


def outcome_of(row: tuple[Any, ...]) -> Outcome:
    """The outcome in a row."""
    (number, id, project, stack_id, status, started, ended, operation, environment,
     details) = row  # fmt: skip
    return Outcome(
        number=number,
        id=id,
        project=project,
        stack_id=stack_id,
        status=status,
        started=started,
        ended=ended,
        operation=operation,
        environment=environment,
        details=decode_details(details),
    )
