"""Conversion of CloudFormation's stack events."""
