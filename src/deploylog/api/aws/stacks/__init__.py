"""Stacks of the log as CloudFormation's clients see them."""
