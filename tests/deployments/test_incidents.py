"""Incidents: which one is open when."""

from deploylog.deployments.incidents import open_incident
from deploylog.events.event import NewEvent
from support.factories import new_event


def said(word: str, time: int, subject: str = "i-1") -> NewEvent:
    return new_event(f"incident.{word}", time=time, subject=subject)


def test_an_incident_is_open_from_its_detection_to_its_resolution():
    events = [said("resolved", 20), said("detected", 10)]

    assert [open_incident(events, time) for time in (9, 10, 19, 20)] == [None, "i-1", "i-1", None]


def test_of_several_the_first_counts():
    events = [said("detected", 12, "i-2"), said("reported", 10, "i-1"), said("detected", 14, "i-1")]

    assert open_incident(events, 30) == "i-1"


def test_an_incident_that_comes_back_is_open_again():
    assert (
        open_incident([said("detected", 1), said("resolved", 2), said("detected", 3)], 4) == "i-1"
    )
