"""Which certificates of receivers are trusted."""

import ssl

from deploylog.errors import InvalidSettings


def make_tls(ca_file: str) -> ssl.SSLContext:
    """Trust the system's certificates and those of ``ca_file``; raises InvalidSettings."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError:
            raise InvalidSettings(f"{ca_file} contains no PEM certificates") from None
        except OSError as error:
            message = f"cannot read the certificates in {ca_file}: {error.strerror}"
            raise InvalidSettings(message) from error
    return context
