"""The CloudFormation API: what reads stacks of AWS CloudFormation's Query API."""

from deploylog.api.api import Api
from deploylog.api.aws.cloudformation.errors import respond
from deploylog.api.aws.cloudformation.operations import ACTIONS, ERROR
from deploylog.api.aws.stacks.security import AWS_SIGNATURE
from deploylog.api.aws.stacks.settings import StackSettings

API = Api(
    title="CloudFormation: what reads stacks of AWS CloudFormation",
    # The root alone: the paths below it are the native API's.
    prefixes=(),
    settings=StackSettings,
    resources=(ACTIONS,),
    respond=respond,
    error=ERROR,
    security=AWS_SIGNATURE,
)
