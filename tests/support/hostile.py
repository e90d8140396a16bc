"""Text that a page must show and never run."""

from typing import Any

#: Markup, a script, an attribute's end, a template, and characters that turn text around.
MARKUP = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7}}\u202e&lt;"

#: The same for fields that are one word.
WORD = "<svg/onload=alert(3)>"


def hostile_event(**fields: Any) -> dict[str, Any]:
    """An event that attacks in every field that it has."""
    return {
        "type": f"resource.{WORD}.started",
        "source": WORD,
        "id": MARKUP,
        "subject": MARKUP,
        "actor": MARKUP,
        "message": MARKUP,
        "resourcetype": MARKUP,
        "resourcename": MARKUP,
        "resourcekey": MARKUP,
        "resourceaddress": MARKUP,
        "resourceidkey": MARKUP,
        "resourceidvalue": MARKUP,
        "data": {
            MARKUP: MARKUP,
            "severity": MARKUP,
            "summary": MARKUP,
            "address": MARKUP,
            "range": {"filename": MARKUP, "start": {"line": 1}},
        },
        "extension": MARKUP,
        **fields,
    }


#: What a deployment may carry, likewise.
DETAILS: dict[str, Any] = {
    "project": "<i>project</i>\"'",
    "stack": "<i>stack</i>\"'",
    "environment": "<i>environment</i>\"'",
    "operation": MARKUP.replace("\u202e", ""),
    "tool": MARKUP.replace("\u202e", ""),
    "actor": MARKUP.replace("\u202e", ""),
    "version": "<b>version</b>",
    "commits": [{"sha": "0123456789", "repository": "javascript:alert(4)//<b>"}],
    "artifacts": [{"purl": 'pkg:oci/"><script>alert(5)</script>'}],
    "url": 'https://ci.example/"><script>alert(6)</script>',
    "change_request": "https://git.example/'><img/src=x/onerror=alert(7)>",
    "approvers": ["<b>approver</b>"],
    "labels": {"team": "<b>label</b>"},
    "restores": "javascript:alert(8)",
    "rework_of": "<b>rework</b>",
}
