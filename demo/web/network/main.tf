variable "name" {
  type = string
}

resource "terraform_data" "vpc" {
  input = var.name

  provisioner "local-exec" {
    command = "exec sleep 1"
  }
}

output "id" {
  value = terraform_data.vpc.id
}
