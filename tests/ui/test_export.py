"""Events as files to save."""

import csv
import io
import json

from deploylog.ui.export import render_lines, render_rows
from support.factories import event


def test_a_line_is_the_event_as_the_api_gives_it():
    [line] = render_lines([event(message="a\nb")]).splitlines()

    assert json.loads(line)["message"] == "a\nb"


def test_a_row_has_the_main_fields():
    text = render_rows([event(type="note", resource="web", message='say "hi",\nthen go')]).decode()

    [row] = csv.reader(io.StringIO(text))
    assert row[1:3] == ["note", "terraform"]
    assert row[4:6] == ["terraform_data.web", 'say "hi",\nthen go']


def test_no_cell_is_a_formula():
    text = render_rows([event(message="=HYPERLINK(1)", actor="@ada")]).decode()

    [row] = csv.reader(io.StringIO(text))
    assert row[3] == "'@ada"
    assert row[5] == "'=HYPERLINK(1)"
