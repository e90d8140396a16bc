"""Traces: how a query was answered."""

import msgspec


class Trace(msgspec.Struct):
    """How a search was answered."""

    #: Segments in which it was looked for.
    segments: int = 0
    #: Those of them in which something was.
    hits: int = 0
    #: Rows of events that were read.
    rows: int = 0
    #: Those of them that did not match.
    rows_in_vain: int = 0
