"""Give every parser what nobody meant: each answers, or refuses with an error of ours.

Texts and bytes are drawn from all of Unicode, and from valid examples that are cut, doubled and
changed. An error that is none of ours would be a 500.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploylog.api.aws.cloudformation.wire import parse_call
from deploylog.api.aws.stacks.arn import parse_arn
from deploylog.api.native.query_string import parse_append_query, parse_stack_query
from deploylog.api.rfs.wire import parse_fields
from deploylog.api.rfs.wire import parse_filter as parse_rfs_filter
from deploylog.auth.authorization import parse_credentials, parse_signature
from deploylog.auth.bluelink import parse_key_id, parse_signed
from deploylog.auth.request_signing import parse_date
from deploylog.auth.sns import parse_topics
from deploylog.errors import DeploylogError
from deploylog.events.cloudevents import Defaults
from deploylog.events.cloudevents.attributes import parse_attributes, parse_event
from deploylog.events.cloudevents.batch import parse_batch, parse_lines
from deploylog.events.cloudevents.binary import parse_binary
from deploylog.events.ids import parse_event_id
from deploylog.events.scope import parse_scope, scope
from deploylog.events.text import parse_text
from deploylog.events.times import parse_duration, parse_time, parse_time_or_ago
from deploylog.ingest.cloudformation.notifications import parse_envelope, parse_message
from deploylog.ingest.cloudformation.sns import parse_sns_message
from deploylog.ingest.terraform.plan import parse_plan

_DEFAULTS = Defaults(time=0, source="fuzz", scopes=(scope("project", "fuzz"),))

#: Valid input, to be cut and changed.
_EXAMPLES = (
    "2026-11-21T04:00:00.123Z", "5m", "project/acme/stack/web", "source==a|source==b,type==c",
    "01a2221f-c170-7726-9b35-a800000005de", '"a phrase" word* id:x', "type!=a.b&since=5m&limit=3",
    '{"specversion":"1.0","id":"1","type":"a.b","source":"s","data":{"a":[1]}}',
    '[{"type":"a","time":"2026-11-21T04:00:00Z","elapsedms":3}]',
    '{"format_version":"1.2","resource_changes":[{"address":"a.b","change":{"actions":["create"]}}]}',
    "Action=DescribeStackEvents&Version=2010-05-15&StackName=web",
    "arn:aws:cloudformation:eu-west-1:123456789012:stack/web/id",
    "AWS4-HMAC-SHA256 Credential=a/20261121/eu/s/aws4_request, SignedHeaders=host, Signature=ab",
    "SDK-HMAC-SHA256 Access=a, SignedHeaders=host, Signature=ab", "Bearer x.y.z", "Basic YTpi",
    '{"Type":"Notification","MessageId":"1","Message":"StackId=\'x\'\\n"}',
    "StackId='arn'\nTimestamp='2026-11-21T04:00:00Z'\nEventId='e'\n", "20261121T040000Z",
    "arn:aws:sns:eu-west-1:1:t=p",
)  # fmt: skip


@st.composite
def _changed(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(_EXAMPLES))
    start, end = draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))
    return text[:start] + draw(st.text(max_size=8)) + text[end:]


TEXTS = st.one_of(st.text(), _changed(), st.sampled_from(_EXAMPLES))
BYTES = st.one_of(st.binary(), TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
HEADERS = st.dictionaries(
    st.sampled_from(
        ["authorization", "ce-id", "ce-type", "ce-source", "ce-time", "ce-specversion", "ce-x",
         "content-type", "bluelink-signature-v1", "bluelink-date"]
    ),
    # As the server decodes the bytes of a header.
    TEXTS.map(lambda text: text.encode("utf-8", "replace").decode("latin-1")),
)  # fmt: skip

#: Each parser, and what it is given.
PARSERS: Mapping[str, tuple[Callable[..., Any], st.SearchStrategy[Any]]] = {
    "time": (parse_time, TEXTS),
    "time or ago": (partial(parse_time_or_ago, now=0), TEXTS),
    "duration": (parse_duration, TEXTS),
    "scope": (parse_scope, TEXTS),
    "full text": (parse_text, TEXTS),
    "cursor": (parse_event_id, TEXTS),
    "append query": (parse_append_query, TEXTS),
    "stack query": (parse_stack_query, TEXTS),
    "RFS filter": (parse_rfs_filter, TEXTS),
    "RFS fields": (parse_fields, TEXTS),
    "CloudFormation form": (parse_call, BYTES),
    "ARN": (parse_arn, TEXTS),
    "bearer": (partial(parse_credentials, scheme="Bearer"), TEXTS),
    "sigv4": (
        partial(parse_signature, algorithm="AWS4-HMAC-SHA256", label="Credential"),
        TEXTS,
    ),
    "Huawei signature": (
        partial(parse_signature, algorithm="SDK-HMAC-SHA256", label="Access"),
        TEXTS,
    ),
    "signed date": (parse_date, TEXTS),
    "Bluelink signature": (parse_signed, HEADERS),
    "Bluelink key": (parse_key_id, HEADERS),
    "topics": (parse_topics, TEXTS),
    "CloudEvent": (lambda body: parse_event(body, _DEFAULTS), BYTES),
    "attributes": (lambda body: parse_attributes(body, _DEFAULTS), BYTES),
    "batch": (lambda body: parse_batch(body, _DEFAULTS, limit=100), BYTES),
    "lines": (lambda body: parse_lines(body, _DEFAULTS, limit=100), BYTES),
    "binary CloudEvent": (lambda headers: parse_binary(headers, b"{", _DEFAULTS), HEADERS),
    "SNS message": (parse_sns_message, BYTES),
    "EventBridge": (parse_envelope, BYTES),
    "stack notification": (parse_message, TEXTS),
    "plan": (parse_plan, BYTES),
}


def faults_of(name: str, examples: int) -> list[str]:
    """What a parser raised that is no error of ours."""
    parse, inputs = PARSERS[name]
    faults: list[str] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def check(value: Any) -> None:
        try:
            parse(value)
        except DeploylogError:
            return
        except Exception as error:
            faults.append(f"the parser of {name} raises {error!r} for {value!r:.200}")

    check()
    return faults[:1]
