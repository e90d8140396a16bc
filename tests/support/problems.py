"""Problem details (RFC 9457) in responses of the native API."""

from support.servers import Answer


def assert_problem(answer: Answer, status: int, kind: str, field: str | None = None) -> None:
    """Check that the response is a problem of this kind, about this field."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["type"] == f"urn:deploylog:problem:{kind}"
    assert problem.get("field") == field
    assert problem["title"]
    assert problem["detail"]
