"""The native API: everything the log can do, in CloudEvents and plain JSON."""

from deploylog.api.api import Api, DeliveryFormat
from deploylog.api.native.errors import respond
from deploylog.api.native.operations import ERROR, RESOURCES
from deploylog.api.native.settings import NativeSettings
from deploylog.api.native.wire import render_one

API = Api(
    title="Native API",
    prefixes=("/",),
    settings=NativeSettings,
    resources=RESOURCES,
    respond=respond,
    error=ERROR,
    security={
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or a token of the OpenID Connect or OAuth 2 issuer that the"
            " service is set up with: a JSON Web Token.",
        },
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "An API key as the password; the user name is ignored.",
        },
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Api-Key",
            "description": "An API key.",
        },
        "gitlabToken": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Gitlab-Token",
            "description": "The secret token of GitLab's webhooks, where they arrive.",
        },
    },
    delivery=DeliveryFormat(
        name="cloudevents",
        render=lambda event: ("application/cloudevents+json", render_one(event)),
    ),
)
