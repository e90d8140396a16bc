"""The settings that belong to no API: type, default, range and help of each."""

from typing import Annotated

import msgspec

from deploylog.api.settings import setting


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the setting of that name."""

    host: Annotated[
        str,
        setting("Address to listen on. Anything but loopback needs authentication."),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        setting("Port to listen on; 0 takes a free one.", 0, 65535),
    ] = 8325
    store: Annotated[
        str,
        setting("Where the log is kept: sqlite:///PATH."),
    ] = "sqlite:///deploylog.db"
    event_retention_days: Annotated[
        float,
        setting("Days that events are retained; 0 retains them for ever.", 0, 36500),
    ] = 0.0
    max_body_bytes: Annotated[
        int,
        setting("Largest request body, as sent.", 1024, 1 << 30),
    ] = 8 * 1024 * 1024
    max_decompressed_bytes: Annotated[
        int,
        setting("Largest request body after it was unpacked.", 1024, 1 << 32),
    ] = 32 * 1024 * 1024
    heartbeat_seconds: Annotated[
        float,
        setting("Seconds after which a silent stream shows that it is alive.", 0.05, 3600),
    ] = 15.0
    query_timeout_seconds: Annotated[
        float,
        setting("Seconds that a query may run, and that it may wait for its turn.", 0.1, 3600),
    ] = 10.0
    max_stream_memory_mib: Annotated[
        int,
        setting(
            "MiB for streams: half keep new events for readers, half are frames being sent.",
            8,
            1 << 20,
        ),
    ] = 128
    unix_socket: Annotated[
        str,
        setting("Path of a unix socket to listen on, too; only this user may connect."),
    ] = ""
    base_paths: Annotated[
        str,
        setting(
            "Paths, separated by commas, that may stand before every other, such as /bluelink."
        ),
    ] = ""
    changeset_retention_days: Annotated[
        float,
        setting("Days that a cleanup leaves change sets for; 0 leaves them for ever.", 0, 36500),
    ] = 0.0
    secret_key_file: Annotated[
        str,
        setting(
            "File of the keys that seal stored secrets, one a line; the first one "
            "seals. Unset: the store's file with .key, created at the first start."
        ),
    ] = ""
    oidc_issuer: Annotated[
        str,
        setting("Issuer of bearer tokens, by host or URL; none accepts no tokens."),
    ] = ""
    oidc_audience: Annotated[
        str,
        setting("Audience that a token must be for; needed with an issuer."),
    ] = ""
    oidc_algorithms: Annotated[
        str,
        setting("Algorithms, separated by commas, that a token may be signed with."),
    ] = "RS256,ES256,EdDSA"
    oidc_groups_claim: Annotated[
        str,
        setting("Claim that holds the groups, such as realm_access.roles."),
    ] = "groups"
    oidc_grants_claim: Annotated[
        str,
        setting("Claim that holds the grants, such as read:project/acme."),
    ] = "deploylog_grants"
    oidc_default_grants: Annotated[
        str,
        setting("Grants, separated by blanks, of a token without the claim that holds them."),
    ] = ""
    oidc_leeway_seconds: Annotated[
        int,
        setting("Seconds that the clocks of the issuer and the service may differ.", 0, 300),
    ] = 30
    sns_topics: Annotated[
        str,
        setting(
            "Topics of SNS that may deliver, separated by commas, each ARN=PROJECT, or ARN alone."
        ),
    ] = ""
    signature_stream_seconds: Annotated[
        int,
        setting(
            "Age in seconds that a Bluelink signature may have on a stream that reconnects.",
            300,
            86_400,
        ),
    ] = 300
    max_requests_per_second: Annotated[
        float,
        setting("Most requests a second of each principal; 0 is no limit.", 0, 1_000_000),
    ] = 0.0
    max_streams_per_principal: Annotated[
        int,
        setting("Most open streams of each principal.", 1, 1_000_000),
    ] = 2_000
    max_failures_per_minute: Annotated[
        int,
        setting(
            "Most failed authentications a minute of each address; 0 is no limit.", 0, 1_000_000
        ),
    ] = 60
    max_connections: Annotated[
        int,
        setting(
            "Most open connections; 0 is three quarters of the limit on open files.", 0, 1_000_000
        ),
    ] = 0
    max_connections_per_address: Annotated[
        int,
        setting("Most open connections of each address; 0 is no limit.", 0, 1_000_000),
    ] = 0
    max_target_bytes: Annotated[
        int,
        setting("Longest request target: path and query.", 1024, 1 << 20),
    ] = 32 * 1024
    max_header_bytes: Annotated[
        int,
        setting("Longest head of a request: its target and all of its headers.", 1024, 1 << 20),
    ] = 64 * 1024
    max_headers: Annotated[
        int,
        setting("Most headers of a request.", 16, 10_000),
    ] = 128
    header_seconds: Annotated[
        float,
        setting("Seconds in which the head of a request must arrive.", 0.1, 3600),
    ] = 20.0
    body_seconds: Annotated[
        float,
        setting("Seconds in which at least 1 KiB of a request body must arrive.", 0.1, 3600),
    ] = 20.0
    keep_alive_seconds: Annotated[
        float,
        setting("Seconds that a connection may wait for its next request.", 0.1, 3600),
    ] = 75.0
    public_url: Annotated[
        str,
        setting("Address that receivers of webhooks reach the service by; the one it listens on."),
    ] = ""
    delivery_allowed_networks: Annotated[
        str,
        setting("Private networks, separated by commas, that webhooks may reach, as 10.1.0.0/16."),
    ] = ""
    delivery_ca_file: Annotated[
        str,
        setting("File of certificates, in PEM, to trust beside the system's when delivering."),
    ] = ""
    delivery_seconds: Annotated[
        float,
        setting("Seconds that a receiver may take to answer.", 0.1, 60),
    ] = 10.0
    delivery_concurrency: Annotated[
        int,
        setting("Requests to one receiver, a host and port, at the same time.", 1, 1000),
    ] = 16
    delivery_per_second: Annotated[
        float,
        setting("Requests to one receiver in a second; 0 is no limit.", 0, 1_000_000),
    ] = 0.0
    attempt_retention_days: Annotated[
        float,
        setting("Days that attempts to deliver are kept; 0 keeps them for ever.", 0, 36500),
    ] = 30.0
    slack_api_url: Annotated[
        str,
        setting("Where Slack's methods are, for subscriptions with a bot's token."),
    ] = "https://slack.com/api"
    log_level: Annotated[
        str,
        setting("What the service says of itself: debug, info, warning or error."),
    ] = "info"
