"""Conversion of the output of Terraform and OpenTofu."""
