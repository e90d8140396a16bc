"""The settings of the ParallelCluster API."""

from typing import Annotated

from deploylog.api.aws.stacks.settings import StackSettings
from deploylog.api.settings import names_of, setting
from deploylog.errors import InvalidSettings


class ParallelClusterSettings(StackSettings, frozen=True, kw_only=True):
    """Which regions ParallelCluster's clients may name, and which statuses they see."""

    parallelcluster_regions: Annotated[
        str,
        setting("Regions, separated by commas, that ParallelCluster clients may name."),
    ] = (
        "af-south-1,ap-east-1,ap-northeast-1,ap-northeast-2,ap-northeast-3,ap-south-1,"
        "ap-southeast-1,ap-southeast-2,ap-southeast-3,ca-central-1,cn-north-1,cn-northwest-1,"
        "eu-central-1,eu-north-1,eu-south-1,eu-west-1,eu-west-2,eu-west-3,il-central-1,"
        "me-central-1,me-south-1,sa-east-1,us-east-1,us-east-2,us-gov-east-1,us-gov-west-1,"
        "us-west-1,us-west-2"
    )
    parallelcluster_region: Annotated[
        str,
        setting("Region for ParallelCluster clients that name none. Empty: they must name one."),
    ] = "us-east-1"
    parallelcluster_raw_statuses: Annotated[
        bool,
        setting("Show ParallelCluster clients CloudFormation statuses that their API lacks."),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        region = self.parallelcluster_region
        if region and region not in names_of(self.parallelcluster_regions):
            raise InvalidSettings("parallelcluster_region is not one of parallelcluster_regions")
