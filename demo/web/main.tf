# A small web application, made of resources that need no cloud. `make demo` applies it twice:
# the second release replaces, updates, deletes and creates.

variable "release" {
  type = string
}

variable "servers" {
  type = number
}

variable "buckets" {
  type = set(string)
}

variable "migration_seconds" {
  type = number
}

variable "password" {
  type      = string
  sensitive = true
}

module "network" {
  source = "./network"
  name   = "web"
}

resource "terraform_data" "database" {
  triggers_replace = var.release

  provisioner "local-exec" {
    command = "exec sleep ${var.migration_seconds}"
  }
}

resource "terraform_data" "server" {
  count = var.servers
  input = { release = var.release, network = module.network.id }

  provisioner "local-exec" {
    command = "exec sleep 1"
  }
}

resource "terraform_data" "bucket" {
  for_each = var.buckets
  input    = each.key
}

output "servers" {
  value = terraform_data.server[*].id
}

output "password" {
  value     = var.password
  sensitive = true
}
