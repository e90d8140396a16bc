"""The CloudFormation dialect: what reads stacks of AWS CloudFormation's Query API."""
