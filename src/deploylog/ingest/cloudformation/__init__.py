"""CloudFormation's events, as events of the log."""
