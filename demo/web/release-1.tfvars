release           = "1.0"
servers           = 3
buckets           = ["assets", "logs"]
migration_seconds = 3
