"""The attacks: add yours to ``ATTACKS``."""

from bench.attacks import edge, readers
from bench.attacks.target import Attack, Target

__all__ = ["ATTACKS", "Attack", "Target"]

ATTACKS: tuple[Attack, ...] = (
    Attack(edge.signature_names),
    Attack(edge.header_lines),
    Attack(edge.long_header),
    Attack(edge.silent_connections),
    Attack(edge.slow_bodies),
    Attack(edge.malformed_requests),
    Attack(edge.form_fields),
    Attack(edge.batch_of_numbers),
    Attack(edge.escape_subscriptions),
    Attack(readers.slow_filters, prepare=readers.many_events),
    Attack(readers.unread_streams, prepare=readers.many_events),
    Attack(readers.unread_large_streams, prepare=readers.large_events),
    Attack(readers.large_view),
)
