"""Redaction of lines: what looks like a secret goes, and everything else stays."""

import re
import time

import pytest

from deploylog.ingest.command.redaction import LineRedactor, secrets_in


@pytest.mark.parametrize(
    ("line", "redacted"),
    [
        ("password=hunter2 user=bob", "password=(sensitive value) user=bob"),
        ('{"client_secret": "a b", "id": 1}', '{"client_secret": (sensitive value), "id": 1}'),
        ("export AWS_SECRET_ACCESS_KEY='x y'", "export AWS_SECRET_ACCESS_KEY=(sensitive value)"),
        (
            "Authorization: Bearer abcdefgh12345",
            "Authorization: (sensitive value) (sensitive value)",
        ),
        ("curl -H bearer abcdefgh12345", "curl -H bearer (sensitive value)"),
        ("postgres://app:s3cr3t@db/x", "postgres://app:(sensitive value)@db/x"),
        ("pushed with ghp_0123456789abcdefghijABCD", "pushed with (sensitive value)"),
        ("key AKIAIOSFODNN7EXAMPLE", "key (sensitive value)"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "(sensitive value)"),
    ],
)
def test_what_looks_like_a_secret_is_replaced(line: str, redacted: str):
    assert LineRedactor().line(line) == redacted


@pytest.mark.parametrize(
    "line",
    [
        "secret/web configured",
        'Release "web" has been upgraded. Happy Helming!',
        "deployment.apps/web scaled",
        "https://example.com/a@b",
        "tokens are fine",
    ],
)
def test_what_does_not_stays(line: str):
    assert LineRedactor().line(line) == line


def test_values_and_patterns_of_our_own_are_replaced():
    redactor = LineRedactor(
        secrets=secrets_in({"DB_PASSWORD": "correct horse", "TOKEN": "short", "HOME": "/home/ann"}),
        patterns=[re.compile(r"card (\d+)"), re.compile("internal-[a-z]+")],
    )

    line = redactor.line("correct horse short /home/ann card 4111 internal-host")

    assert line == ("(sensitive value) short /home/ann card (sensitive value) (sensitive value)")


def test_a_private_key_is_replaced_line_by_line():
    redactor = LineRedactor()
    lines = ["-----BEGIN RSA PRIVATE KEY-----", "MIIE", "-----END RSA PRIVATE KEY-----", "done"]

    assert [redactor.line(line) for line in lines] == [*["(sensitive value)"] * 3, "done"]


@pytest.mark.parametrize(
    "unit", ["secret", "secret=", "a:", "://a:", "eyJaaaaaaaa.", "password ", "token:'", "bearer "]
)
def test_no_line_takes_long(unit: str):
    redactor = LineRedactor(secrets=["correct horse"])
    line = (unit * 4096)[:4200]

    start = time.process_time()
    redactor.line(line)

    assert time.process_time() - start < 1
