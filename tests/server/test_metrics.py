"""The metrics of what a store reports."""

from deploylog.server.metrics import Metrics


def test_rows_are_counted_with_those_that_were_read_in_vain():
    metrics = Metrics()

    metrics.rows_read(5, in_vain=2)
    metrics.rows_read(1, in_vain=0)

    rendered = metrics.render().decode().splitlines()
    assert "deploylog_rows_read_total 6.0" in rendered
    assert "deploylog_rows_read_in_vain_total 2.0" in rendered
