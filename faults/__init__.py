"""What breaks, and what is promised then: a module a suite; see docs/explanation/faults.md."""
