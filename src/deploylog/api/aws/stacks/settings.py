"""The settings that the APIs of AWS share."""

import re
from typing import Annotated

import msgspec

from deploylog.api.settings import setting
from deploylog.errors import InvalidSettings

_REGION = re.compile("[a-z0-9-]+")
_ACCOUNT = re.compile("[0-9]{12}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*([a-z]+[0-9]*)?")


class StackSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which stacks AWS clients see, and how."""

    cloudformation_project: Annotated[
        str,
        setting("Only project whose stacks AWS clients see. Empty: stacks of all projects."),
    ] = ""
    cloudformation_region: Annotated[
        str,
        setting("Region in the ARNs of stacks that were not collected from CloudFormation."),
    ] = "us-east-1"
    cloudformation_account: Annotated[
        str,
        setting("Account in these ARNs, 12 digits."),
    ] = "000000000000"
    parallelcluster_version: Annotated[
        str,
        setting("ParallelCluster version in the tags of stacks whose own tags are unknown."),
    ] = "3.0.0"

    def __post_init__(self) -> None:
        if not _REGION.fullmatch(self.cloudformation_region):
            raise InvalidSettings("cloudformation_region is not a region")
        if not _ACCOUNT.fullmatch(self.cloudformation_account):
            raise InvalidSettings("cloudformation_account has 12 digits")
        if not _VERSION.fullmatch(self.parallelcluster_version):
            raise InvalidSettings("parallelcluster_version is not a version")
