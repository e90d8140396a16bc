"""JSON lines: what is printed with and without an expression of jq."""

from collections.abc import Sequence

import pytest
import typer

from deploylog.cli.terminal import jq
from deploylog.cli.terminal.json_lines import JsonLines
from deploylog.errors import OperatorError

EVENTS = ({"id": "a", "type": "build.started"}, {"id": "b", "type": "build.failed"})


def printed(
    capsys: pytest.CaptureFixture[str], expression: str | None, values: Sequence[object] = EVENTS
) -> list[str]:
    JsonLines(jq.parse(expression) if expression is not None else None).print_all(values)
    return capsys.readouterr().out.splitlines()


def test_without_an_expression_each_value_is_a_line_of_json(capsys: pytest.CaptureFixture[str]):
    assert printed(capsys, None) == [
        '{"id":"a","type":"build.started"}',
        '{"id":"b","type":"build.failed"}',
    ]


def test_an_expression_sees_each_value_by_itself(capsys: pytest.CaptureFixture[str]):
    assert printed(capsys, 'select(.type == "build.failed") | {id}') == ['{"id":"b"}']


def test_a_string_is_printed_without_quotes(capsys: pytest.CaptureFixture[str]):
    assert printed(capsys, ".id, .missing", EVENTS[:1]) == ["a", "null"]


def test_a_string_cannot_control_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    evil = [{"message": "\x1b[2Jgone"}]

    piped = printed(capsys, ".message", evil)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = printed(capsys, ".message", evil)

    assert (piped, shown) == (["\x1b[2Jgone"], ["\N{REPLACEMENT CHARACTER}[2Jgone"])


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (".a[", "syntax error, unexpected end of file at <top-level>, line 1, column 3"),
        (".a | b", "b/0 is not defined at <top-level>, line 1, column 6"),
        ("", 'Top-level program not given (try ".")'),
    ],
)
def test_a_bad_expression_is_refused_in_one_line(expression: str, reason: str):
    with pytest.raises(typer.BadParameter) as refused:
        jq.parse(expression)

    assert refused.value.message == reason


def test_an_expression_that_does_not_suit_the_value_is_an_error(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(OperatorError, match=r'^--jq: Cannot index string with string \("x"\)$'):
        printed(capsys, ".id | .x")
