"""The native API: CloudEvents in and out, RFC 9457 errors."""
