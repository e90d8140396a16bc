"""The ParallelCluster API: AWS ParallelCluster's stack events of images and clusters."""

from deploylog.api.api import Api
from deploylog.api.aws.parallelcluster.errors import respond
from deploylog.api.aws.parallelcluster.operations import ERROR, STACK_EVENTS
from deploylog.api.aws.parallelcluster.settings import ParallelClusterSettings
from deploylog.api.aws.stacks.security import AWS_SIGNATURE

API = Api(
    title="ParallelCluster: stack events of AWS ParallelCluster",
    prefixes=("/v3/",),
    settings=ParallelClusterSettings,
    resources=(STACK_EVENTS,),
    respond=respond,
    error=ERROR,
    security=AWS_SIGNATURE,
)
