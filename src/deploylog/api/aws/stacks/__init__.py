"""The log's stacks in CloudFormation's terms, for the APIs of AWS."""
