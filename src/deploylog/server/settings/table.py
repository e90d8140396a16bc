"""The table of settings: name, type, default, and what each is for."""

import msgspec


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an operator can choose."""

    name: str
    type: type
    default: str | int | float | bool
    help: str

    @property
    def env(self) -> str:
        """The environment variable."""
        return f"DEPLOYLOG_{self.name.upper()}"

    @property
    def option(self) -> str:
        """The command-line option."""
        return f"--{self.name.replace('_', '-')}"


#: Former names of settings.
RENAMED = {
    "retention_days": "event_retention_days",
    "changeset_days": "changeset_retention_days",
    "attempt_days": "attempt_retention_days",
    "delivery_networks": "delivery_allowed_networks",
    "max_streams": "max_streams_per_principal",
    "max_unpacked_bytes": "max_decompressed_bytes",
}

SETTINGS = (
    Setting(
        name="host",
        type=str,
        default="127.0.0.1",
        help="Address to listen on. Anything but loopback needs authentication.",
    ),
    Setting(name="port", type=int, default=8325, help="Port to listen on; 0 takes a free one."),
    Setting(
        name="store",
        type=str,
        default="sqlite:///deploylog.db",
        help="Where the log is kept: sqlite:///PATH.",
    ),
    Setting(
        name="event_retention_days",
        type=float,
        default=0.0,
        help="Days that events are retained; 0 retains them for ever.",
    ),
    Setting(
        name="max_body_bytes",
        type=int,
        default=8 * 1024 * 1024,
        help="Largest request body, as sent.",
    ),
    Setting(
        name="max_decompressed_bytes",
        type=int,
        default=32 * 1024 * 1024,
        help="Largest request body after it was unpacked.",
    ),
    Setting(
        name="max_batch_events",
        type=int,
        default=5_000,
        help="Most events of one request.",
    ),
    Setting(
        name="heartbeat_seconds",
        type=float,
        default=15.0,
        help="Seconds after which a silent stream shows that it is alive.",
    ),
    Setting(
        name="query_timeout_seconds",
        type=float,
        default=10.0,
        help="Seconds that a query may run, and that it may wait for its turn.",
    ),
    Setting(
        name="max_stream_memory_mib",
        type=int,
        default=128,
        help="MiB for streams: half keep new events for readers, half are frames being sent.",
    ),
    Setting(
        name="rfs_strict",
        type=bool,
        default=False,
        help="Refuse query parameters that the RFS API does not know, instead of ignoring them.",
    ),
    Setting(
        name="unix_socket",
        type=str,
        default="",
        help="Path of a unix socket to listen on, too; only this user may connect.",
    ),
    Setting(
        name="base_paths",
        type=str,
        default="",
        help="Paths, separated by commas, that may stand before every other, such as /bluelink.",
    ),
    Setting(
        name="plan_folders",
        type=str,
        default="",
        help="Absolute folders, separated by commas, below which clients may name plan files.",
    ),
    Setting(
        name="changeset_retention_days",
        type=float,
        default=0.0,
        help="Days that a cleanup leaves change sets for; 0 leaves them for ever.",
    ),
    Setting(
        name="bluelink_project",
        type=str,
        default="default",
        help="Project of what Bluelink clients stage for an instance that there is not yet.",
    ),
    Setting(
        name="bluelink_recent_seconds",
        type=int,
        default=300,
        help="Age in seconds from which a Bluelink stream of something finished leaves events"
        " out; 0 leaves none out.",
    ),
    Setting(
        name="bluelink_drift_check",
        type=bool,
        default=False,
        help="End the staging of a plan that shows drift as drift, unless the client skips that.",
    ),
    Setting(
        name="escape_secret_file",
        type=str,
        default="",
        help="File of the secret with which EscapeKit's services may create events.",
    ),
    Setting(
        name="escape_upload_groups",
        type=str,
        default="*",
        help="Groups, separated by commas, that may see what an Inventory says was uploaded.",
    ),
    Setting(
        name="escape_page_size",
        type=int,
        default=50,
        help="Events on a page for EscapeKit's clients that do not say how many.",
    ),
    Setting(
        name="cloudformation_project",
        type=str,
        default="",
        help="The only project whose stacks AWS clients are shown; none shows those of all.",
    ),
    Setting(
        name="cloudformation_region",
        type=str,
        default="us-east-1",
        help="Region in the ARNs of stacks that were not collected from CloudFormation.",
    ),
    Setting(
        name="cloudformation_account",
        type=str,
        default="000000000000",
        help="Account in these ARNs, of 12 digits.",
    ),
    Setting(
        name="parallelcluster_regions",
        type=str,
        default="af-south-1,ap-east-1,ap-northeast-1,ap-northeast-2,ap-northeast-3,ap-south-1,"
        "ap-southeast-1,ap-southeast-2,ap-southeast-3,ca-central-1,cn-north-1,cn-northwest-1,"
        "eu-central-1,eu-north-1,eu-south-1,eu-west-1,eu-west-2,eu-west-3,il-central-1,"
        "me-central-1,me-south-1,sa-east-1,us-east-1,us-east-2,us-gov-east-1,us-gov-west-1,"
        "us-west-1,us-west-2",
        help="Regions, separated by commas, that ParallelCluster's clients may name.",
    ),
    Setting(
        name="parallelcluster_region",
        type=str,
        default="us-east-1",
        help="Region of ParallelCluster's clients that name none; empty, they have to.",
    ),
    Setting(
        name="parallelcluster_raw_statuses",
        type=bool,
        default=False,
        help="Show ParallelCluster's clients CloudFormation's statuses that their API lacks.",
    ),
    Setting(
        name="parallelcluster_version",
        type=str,
        default="3.0.0",
        help="Version of ParallelCluster in the tags of stacks whose own tags are not known.",
    ),
    Setting(
        name="secret_key_file",
        type=str,
        default="",
        help="File of the keys that seal stored secrets, one a line; the first one seals. Unset:"
        " the store's file with .key, created at the first start.",
    ),
    Setting(
        name="oidc_issuer",
        type=str,
        default="",
        help="Issuer of bearer tokens, by host or URL; none accepts no tokens.",
    ),
    Setting(
        name="oidc_audience",
        type=str,
        default="",
        help="Audience that a token must be for; needed with an issuer.",
    ),
    Setting(
        name="oidc_algorithms",
        type=str,
        default="RS256,ES256,EdDSA",
        help="Algorithms, separated by commas, that a token may be signed with.",
    ),
    Setting(
        name="oidc_groups_claim",
        type=str,
        default="groups",
        help="Claim that holds the groups, such as realm_access.roles.",
    ),
    Setting(
        name="oidc_grants_claim",
        type=str,
        default="deploylog_grants",
        help="Claim that holds the grants, such as read:project/acme.",
    ),
    Setting(
        name="oidc_default_grants",
        type=str,
        default="",
        help="Grants, separated by blanks, of a token without the claim that holds them.",
    ),
    Setting(
        name="oidc_leeway_seconds",
        type=int,
        default=30,
        help="Seconds that the clocks of the issuer and the service may differ.",
    ),
    Setting(
        name="sns_topics",
        type=str,
        default="",
        help="Topics of SNS that may deliver, separated by commas, each ARN=PROJECT, or ARN alone.",
    ),
    Setting(
        name="signature_stream_seconds",
        type=int,
        default=300,
        help="Age in seconds that a Bluelink signature may have on a stream that reconnects.",
    ),
    Setting(
        name="max_requests_per_second",
        type=float,
        default=0.0,
        help="Most requests a second of each principal; 0 is no limit.",
    ),
    Setting(
        name="max_streams_per_principal",
        type=int,
        default=2_000,
        help="Most open streams of each principal.",
    ),
    Setting(
        name="max_failures_per_minute",
        type=int,
        default=60,
        help="Most failed authentications a minute of each address; 0 is no limit.",
    ),
    Setting(
        name="max_connections",
        type=int,
        default=0,
        help="Most open connections; 0 is three quarters of the limit on open files.",
    ),
    Setting(
        name="max_connections_per_address",
        type=int,
        default=0,
        help="Most open connections of each address; 0 is no limit.",
    ),
    Setting(
        name="max_target_bytes",
        type=int,
        default=32 * 1024,
        help="Longest request target: path and query.",
    ),
    Setting(
        name="max_header_bytes",
        type=int,
        default=64 * 1024,
        help="Longest head of a request: its target and all of its headers.",
    ),
    Setting(
        name="max_headers",
        type=int,
        default=128,
        help="Most headers of a request.",
    ),
    Setting(
        name="header_seconds",
        type=float,
        default=20.0,
        help="Seconds in which the head of a request must arrive.",
    ),
    Setting(
        name="body_seconds",
        type=float,
        default=20.0,
        help="Seconds in which at least 1 KiB of a request body must arrive.",
    ),
    Setting(
        name="keep_alive_seconds",
        type=float,
        default=75.0,
        help="Seconds that a connection may wait for its next request.",
    ),
    Setting(
        name="public_url",
        type=str,
        default="",
        help="Address that receivers of webhooks reach the service by; the one it listens on.",
    ),
    Setting(
        name="delivery_allowed_networks",
        type=str,
        default="",
        help="Private networks, separated by commas, that webhooks may reach, as 10.1.0.0/16.",
    ),
    Setting(
        name="delivery_ca_file",
        type=str,
        default="",
        help="File of certificates, in PEM, to trust beside the system's when delivering.",
    ),
    Setting(
        name="delivery_seconds",
        type=float,
        default=10.0,
        help="Seconds that a receiver may take to answer.",
    ),
    Setting(
        name="delivery_concurrency",
        type=int,
        default=16,
        help="Requests to one receiver, a host and port, at the same time.",
    ),
    Setting(
        name="delivery_per_second",
        type=float,
        default=0.0,
        help="Requests to one receiver in a second; 0 is no limit.",
    ),
    Setting(
        name="attempt_retention_days",
        type=float,
        default=30.0,
        help="Days that attempts to deliver are kept; 0 keeps them for ever.",
    ),
    Setting(
        name="slack_api_url",
        type=str,
        default="https://slack.com/api",
        help="Where Slack's methods are, for subscriptions with a bot's token.",
    ),
    Setting(
        name="log_level",
        type=str,
        default="info",
        help="What the service says of itself: debug, info, warning or error.",
    ),
)
