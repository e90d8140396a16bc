"""The operations for what other services post in forms of their own."""

from deploylog.api.api import Resource
from deploylog.api.native.ingest.endpoints import Ingest
from deploylog.api.native.ingest.wire import IngestReceipt
from deploylog.api.native.wire import Receipts
from deploylog.api.operation import Body, Operation, Parameter, always, path_parameter, repeated
from deploylog.ingest.cloudformation.notifications import Envelope
from deploylog.ingest.cloudformation.sns import SnsMessage

_PROJECT = Parameter(name="project", help="The project.", required=True)

_GROUP = Parameter(name="group", help="Group that may read it.", schema=repeated())

_STACK = (
    Parameter(name="cluster", help="The cluster that the stack creates."),
    Parameter(name="image", help="The image that the stack builds."),
    _GROUP,
)

INGEST = Resource(
    endpoints=Ingest,
    operations=(
        Operation(
            id="ingestEventBridge",
            method="POST",
            path="/log/v1/ingest/eventbridge",
            endpoint=Ingest.eventbridge,
            summary="Record an EventBridge event of a CloudFormation stack",
            tag="ingest",
            parameters=(_PROJECT, *_STACK),
            request=(Body(help="An EventBridge event.", type=Envelope),),
            answers=(Body(help="The ids and positions of the events.", status=201, type=Receipts),),
        ),
        Operation(
            id="ingestSns",
            method="POST",
            path="/log/v1/ingest/sns",
            endpoint=Ingest.sns,
            # SNS sends no credentials in headers, but signs what it sends.
            is_open=always,
            summary="Record an SNS notification of a CloudFormation stack",
            tag="ingest",
            parameters=(
                Parameter(name="project", help="The project, for a topic configured without one."),
                *_STACK,
            ),
            request=(Body(help="An SNS message.", type=SnsMessage),),
            answers=(
                Body(help="The ids and positions of the events.", status=201, type=Receipts),
                Body(
                    help="Acknowledged without an event, such as a subscription confirmation.",
                    status=204,
                    media="",
                ),
            ),
        ),
        Operation(
            id="ingestFromSource",
            method="POST",
            path="/log/v1/ingest/{source}",
            endpoint=Ingest.source,
            summary="Record a webhook of another system as a deployment",
            tag="ingest",
            parameters=(
                path_parameter("source", "The system, such as github."),
                _PROJECT,
                Parameter(name="stack", help="The stack, instead of the one that is named."),
                Parameter(
                    name="environment", help="The environment, instead of the one that is named."
                ),
                Parameter(
                    name="workflow",
                    help="Name of a GitHub workflow whose runs are deployments.",
                    schema=repeated(),
                ),
                _GROUP,
            ),
            request=(Body(help="What the system sends.", type=dict[str, object]),),
            answers=(
                Body(help="What was recorded.", status=201, type=IngestReceipt),
                Body(help="Acknowledged, with the reason to record nothing.", type=IngestReceipt),
            ),
        ),
    ),
)
