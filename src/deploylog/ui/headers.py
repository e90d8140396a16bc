"""Headers that protect pages: nothing from elsewhere, nothing inline, no frames."""

#: On every response. Scripts, styles and requests are the service's own; none is inline.
SECURITY_HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types deploylog",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

#: A page may be of one person, and of one moment.
PAGE_HEADERS = {**SECURITY_HEADERS, "cache-control": "no-store"}

#: The name of a static file changes with its content.
ASSET_HEADERS = {**SECURITY_HEADERS, "cache-control": "public, max-age=31536000, immutable"}
