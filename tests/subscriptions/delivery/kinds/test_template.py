"""Templates of users: what they render, what they may not, and that they end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from deploylog.errors import InvalidSubscription
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.kind import TemplateFailed
from deploylog.subscriptions.delivery.kinds.template.child import MAX_TEXT, answer
from deploylog.subscriptions.delivery.kinds.template.environment import (
    MAX_TEMPLATE,
    check_template,
)
from deploylog.subscriptions.delivery.kinds.template.process import (
    Task,
    TemplateProcess,
    open_templates,
)
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import Endpoint
from support.factories import subscription
from support.receivers import receiving
from support.sinks import Owner, ended_deployment, lifecycle_event, outgoing, sender_parts
from support.subscribers import headers_of


@pytest.fixture
async def templates() -> AsyncIterator[TemplateProcess]:
    async with open_templates() as templates:
        yield templates


async def render(template: str, values: dict[str, Any]) -> str:
    """Render in this process, as the other one does."""
    rendered = answer(Task(template, values))
    if rendered.error:
        raise TemplateFailed(rendered.error)
    return rendered.text


async def send(
    transport: WebhookTransport, template: str, **fields: Any
) -> tuple[Outcome, list[tuple[dict[str, str], bytes]]]:
    owner = Owner(ended_deployment())
    parts = sender_parts(transport, owner, render_template=render)
    async with receiving() as receiver:
        endpoint = Endpoint(url=receiver.url, template=template, **fields)
        sender = KINDS["template"].open_senders(parts)(endpoint)
        named = subscription(id="s", name="ops", kind="template")
        outcome = await sender.send(
            outgoing("template", endpoint, lifecycle_event(), subscription=named)
        )
    return outcome, [(headers_of(head), body) for head, body in receiver.requests]


async def test_a_body_is_what_the_template_makes_of_event_and_deployment(
    transport: WebhookTransport,
):
    template = (
        '{"text": {{ (deployment.stack ~ " " ~ deployment.version) | tojson }},'
        ' "type": {{ event.type | tojson }}, "by": {{ subscription.name | tojson }},'
        ' "link": {{ url | tojson }}}'
    )

    outcome, [(headers, body)] = await send(transport, template)

    assert outcome.result == "delivered"
    assert outcome.request == body
    assert headers["content-type"].startswith("application/json")
    assert msgspec.json.decode(body) | {"link": ""} == {
        "text": "web 1.4.2", "type": "deployment.completed", "by": "ops", "link": "",
    }  # fmt: skip


async def test_the_headers_of_the_user_are_sent(
    transport: WebhookTransport,
):
    headers = {"Authorization": "Bearer x", "Content-Type": "text/plain"}

    _, [(sent, body)] = await send(transport, "{{ event.type }}", headers=headers)

    assert (sent["authorization"], sent["content-type"]) == ("Bearer x", "text/plain")
    assert body == b"deployment.completed"


async def test_text_that_is_not_json_is_not_sent_as_json(
    transport: WebhookTransport,
):
    outcome, requests = await send(transport, '{"text": {{ deployment.stack }}}')

    assert (outcome.result, requests) == ("retry", [])
    assert "not JSON" in (outcome.error or "")


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ event.type }", "line 1: "),
        ("a\nb {% if %}", "line 2: "),
        ("a\n\n{{ evnt.type }}", "line 3: there is no 'evnt'; there are event, deployment"),
        ("{{ event | shout }}", "line 1: No filter named 'shout'"),
        ("\n{% include 'x' %}", "line 2: a template cannot include another"),
        ("x" * (MAX_TEMPLATE + 1), "exceeds"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "nested too deeply"),
    ],
)
def test_a_template_that_cannot_work_is_refused_by_its_line(template: str, error: str):
    with pytest.raises(InvalidSubscription, match=error.replace("|", r"\|")) as refused:
        check_template(template)

    assert refused.value.field == "template"


@pytest.mark.parametrize(
    "template",
    [
        "{% set a = 1 %}{% for k, v in event.items() %}{{ loop.index }}{{ k }}{{ a }}{% endfor %}",
        "{% macro row(text) %}<{{ text }}>{% endmacro %}{{ row(event.type) }}",
        "{{ deployment.version if deployment else '' }}",
    ],
)
async def test_a_template_may_have_loops_and_macros(template: str):
    check_template(template)
    values = {"event": {"type": "a"}, "deployment": None, "subscription": {}, "url": ""}

    await render(template, values)


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("a\n{{ event.tpye }}", "line 2: 'dict object' has no attribute 'tpye'"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ event.update({'a': 1}) }}", "is unsafe"),
        ("{{ 'x' * 300000 }}", f"exceeds {MAX_TEXT} bytes"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
async def test_an_error_names_the_line_of_the_template(template: str, error: str):
    with pytest.raises(TemplateFailed, match=error):
        await render(template, {"event": {"type": "a"}})


@pytest.mark.process
async def test_a_template_gets_no_more_memory_than_its_process(templates: TemplateProcess):
    with pytest.raises(TemplateFailed, match="MemoryError"):
        await templates.render("{{ 'x' * 10000000000 }}", {})

    assert await templates.render("{{ event }}", {"event": "next"}) == "next"


@pytest.mark.process
async def test_a_template_that_runs_for_ever_is_killed_and_the_next_is_rendered(
    templates: TemplateProcess,
):
    await templates.render("", {})
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

    with pytest.raises(TemplateFailed, match="not rendered within 1 s"):
        await templates.render(endless, {})

    assert await templates.render("{{ event }}", {"event": "next"}) == "next"


@pytest.mark.process
async def test_concurrent_templates_get_their_own_text(templates: TemplateProcess):
    texts = await asyncio.gather(
        *(templates.render("{{ event }}", {"event": number}) for number in range(20))
    )

    assert texts == [str(number) for number in range(20)]


@pytest.mark.process
async def test_a_cancelled_template_leaves_nothing_for_the_next(templates: TemplateProcess):
    await templates.render("", {})
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    slow = asyncio.create_task(templates.render(endless, {}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    slow.cancel()
    await asyncio.wait([slow])

    assert await templates.render("{{ event }}", {"event": "mine"}) == "mine"
