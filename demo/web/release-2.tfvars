release = "2.0"
servers = 2
buckets = ["assets", "backups"]

# Terraform says every 10 s that it is still creating.
migration_seconds = 11
