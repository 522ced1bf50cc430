# What every root has: each of self-hosted, aws and gcp links to this file.

provider "prefect" {}

provider "kubernetes" {}

module "perennial" {
  source                = "../perennial"
  image                 = var.image
  specs                 = { for name in fileset(var.specs, "*.toml") : name => file("${var.specs}/${name}") }
  secrets               = var.secrets
  api_keys              = var.api_keys
  notification_block_id = var.notification_block_id
}

variable "image" {
  description = "Image of the target `full`, by digest"
  type        = string
}

variable "specs" {
  description = "Directory of the model specs"
  type        = string
  default     = "../../../examples"
}

variable "bucket" {
  description = "Name of the bucket of the model registry"
  type        = string
}

variable "secrets" {
  description = "See ../perennial/variables.tf; give them by TF_VAR_secrets or a file that is not committed"
  type        = map(string)
  sensitive   = true
}

variable "api_keys" {
  description = "API keys of the service's clients"
  type        = list(string)
  sensitive   = true
}

variable "notification_block_id" {
  description = "Prefect notification block that is told of failures"
  type        = string
  default     = null
}
