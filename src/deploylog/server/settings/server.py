"""The settings that belong to no API: type, default, range and help of each."""

from typing import Annotated

import msgspec

from deploylog.api.settings import setting


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the setting of that name."""

    host: Annotated[
        str,
        setting("Address to listen on. Anything but loopback requires authentication."),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        setting("Port to listen on; 0 picks a free one.", 0, 65535),
    ] = 8325
    store: Annotated[
        str,
        setting("URL of the store: sqlite:///PATH or postgresql://HOST/DATABASE."),
    ] = "sqlite:///deploylog.db"
    workers: Annotated[
        int,
        setting("Processes that serve together on this machine.", 1, 64),
    ] = 1
    event_retention_days: Annotated[
        float,
        setting("Days to retain events; 0 retains them indefinitely.", 0, 36500),
    ] = 0.0
    max_body_bytes: Annotated[
        int,
        setting("Maximum size of a request body, as sent.", 1024, 1 << 30),
    ] = 8 * 1024 * 1024
    max_decompressed_bytes: Annotated[
        int,
        setting("Maximum size of a request body after decompression.", 1024, 1 << 32),
    ] = 32 * 1024 * 1024
    max_request_memory_mib: Annotated[
        int,
        setting(
            "MiB of request bodies in memory at once, decompressed. Over that, requests get 503.",
            1,
            1 << 20,
        ),
    ] = 64
    heartbeat_seconds: Annotated[
        float,
        setting("Seconds of silence after which a stream sends a heartbeat.", 0.05, 3600),
    ] = 15.0
    query_timeout_seconds: Annotated[
        float,
        setting("Seconds that a query may run, and that it may wait for its turn.", 0.1, 3600),
    ] = 10.0
    max_stream_memory_mib: Annotated[
        int,
        setting(
            "MiB for streams: half for new events that readers wait for, half for "
            "frames being sent.",
            8,
            1 << 20,
        ),
    ] = 128
    unix_socket: Annotated[
        str,
        setting("Path of a Unix socket to listen on as well; only this user may connect."),
    ] = ""
    base_paths: Annotated[
        str,
        setting("Prefixes, separated by commas, that every path may have, such as /bluelink."),
    ] = ""
    cors_origins: Annotated[
        str,
        setting(
            "Origins whose pages may call the service, separated by commas, such as "
            "https://portal.example; * is any. Empty: none."
        ),
    ] = ""
    changeset_retention_days: Annotated[
        float,
        setting(
            "Age in days at which a cleanup deletes change sets; 0 never deletes them.", 0, 36500
        ),
    ] = 0.0
    secret_key_file: Annotated[
        str,
        setting(
            "File of the keys that encrypt stored secrets, one a line; the first one "
            "encrypts. Default with SQLite: the store's file with .key, created at the first start."
        ),
    ] = ""
    oidc_issuer: Annotated[
        str,
        setting("Issuer of bearer tokens, as a host or URL. Empty: accept no tokens."),
    ] = ""
    oidc_audience: Annotated[
        str,
        setting("Audience that tokens must have; required with an issuer."),
    ] = ""
    oidc_algorithms: Annotated[
        str,
        setting("Signature algorithms to accept, separated by commas."),
    ] = "RS256,ES256,EdDSA"
    oidc_groups_claim: Annotated[
        str,
        setting("Claim with the groups, such as realm_access.roles."),
    ] = "groups"
    oidc_grants_claim: Annotated[
        str,
        setting("Claim with the grants, such as read:project/acme."),
    ] = "deploylog_grants"
    oidc_default_grants: Annotated[
        str,
        setting("Grants, separated by spaces, of a token without the claim for grants."),
    ] = ""
    oidc_leeway_seconds: Annotated[
        int,
        setting("Seconds that the clocks of issuer and service may differ.", 0, 300),
    ] = 30
    oidc_client_id: Annotated[
        str,
        setting("Client id of this service at the issuer. Empty: people sign in by API key only."),
    ] = ""
    oidc_client_secret_file: Annotated[
        str,
        setting("File of the client's secret; none for a public client."),
    ] = ""
    oidc_scopes: Annotated[
        str,
        setting("Scopes to ask the issuer for when people sign in, separated by spaces."),
    ] = "openid profile email"
    session_hours: Annotated[
        float,
        setting("Hours after which people must sign in again.", 0.01, 24 * 365),
    ] = 12.0
    sns_topics: Annotated[
        str,
        setting("SNS topics that may deliver, separated by commas, each ARN=PROJECT or ARN alone."),
    ] = ""
    signature_stream_seconds: Annotated[
        int,
        setting(
            "Maximum age in seconds of a Bluelink signature on a reconnecting stream.",
            300,
            86_400,
        ),
    ] = 300
    max_requests_per_second: Annotated[
        float,
        setting("Requests per second of each principal; 0 is no limit.", 0, 1_000_000),
    ] = 0.0
    max_streams_per_principal: Annotated[
        int,
        setting("Open streams of each principal.", 1, 1_000_000),
    ] = 2_000
    max_failures_per_minute: Annotated[
        int,
        setting(
            "Failed authentications per minute from each address; 0 is no limit.", 0, 1_000_000
        ),
    ] = 60
    max_connections: Annotated[
        int,
        setting("Open connections; 0 is three quarters of the limit on open files.", 0, 1_000_000),
    ] = 0
    max_connections_per_address: Annotated[
        int,
        setting("Open connections from each address; 0 is no limit.", 0, 1_000_000),
    ] = 0
    max_target_bytes: Annotated[
        int,
        setting("Maximum length of a request target: path and query.", 1024, 1 << 20),
    ] = 32 * 1024
    max_header_bytes: Annotated[
        int,
        setting("Maximum size of the target and headers of a request together.", 1024, 1 << 20),
    ] = 64 * 1024
    max_headers: Annotated[
        int,
        setting("Maximum number of headers of a request.", 16, 10_000),
    ] = 128
    header_seconds: Annotated[
        float,
        setting("Seconds in which the headers of a request must arrive.", 0.1, 3600),
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
        setting(
            "URL at which people and webhook receivers reach the service. Default: the address it "
            "listens on."
        ),
    ] = ""
    delivery_allowed_networks: Annotated[
        str,
        setting(
            "Private networks that webhooks may reach, separated by commas, such as 10.1.0.0/16."
        ),
    ] = ""
    delivery_ca_file: Annotated[
        str,
        setting("PEM file of certificates to trust for deliveries, in addition to the system's."),
    ] = ""
    delivery_seconds: Annotated[
        float,
        setting("Seconds that a receiver may take to respond.", 0.1, 60),
    ] = 10.0
    delivery_concurrency: Annotated[
        int,
        setting("Concurrent requests to one receiver, which is a host and port.", 1, 1000),
    ] = 16
    delivery_per_second: Annotated[
        float,
        setting("Requests per second to one receiver; 0 is no limit.", 0, 1_000_000),
    ] = 0.0
    attempt_retention_days: Annotated[
        float,
        setting("Days to retain delivery attempts; 0 retains them indefinitely.", 0, 36500),
    ] = 30.0
    slack_api_url: Annotated[
        str,
        setting("Base URL of Slack's API, for subscriptions with a bot token."),
    ] = "https://slack.com/api"
    production_environments: Annotated[
        str,
        setting(
            "Environments that are production, separated by commas; * stands for any characters. "
            "A deployment may say otherwise."
        ),
    ] = "prod,production,prod-*,production-*,*-prod,*-production"
    dora_places: Annotated[
        str,
        setting(
            "What /metrics shows DORA's metrics of, separated by commas: PROJECT, PROJECT/STACK or "
            "PROJECT/STACK/ENVIRONMENT. Anyone may read them."
        ),
    ] = ""
    dora_window: Annotated[
        str,
        setting("How long the metrics of dora_places look back, such as 30d."),
    ] = "30d"
    otlp_endpoint: Annotated[
        str,
        setting(
            "URL of a collector that gets the service's own spans, over OTLP/HTTP, such as "
            "http://127.0.0.1:4318. Empty: none."
        ),
    ] = ""
    log_level: Annotated[
        str,
        setting("Level of the service log: debug, info, warning or error."),
    ] = "info"
    log_format: Annotated[
        str,
        setting("Format of the service log: text, or json, one object per line."),
    ] = "text"
    access_log: Annotated[
        bool,
        setting("Log each request: client, method, path, status and duration."),
    ] = False
