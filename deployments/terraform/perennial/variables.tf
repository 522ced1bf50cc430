variable "namespace" {
  description = "Kubernetes namespace; deployments/kubernetes uses the same name"
  type        = string
  default     = "perennial"
}

variable "image" {
  description = "Image that flow runs use: the target `full`, by digest"
  type        = string
}

variable "specs" {
  description = "Model specs: file name (ending in .toml) to text"
  type        = map(string)
}

variable "secrets" {
  description = "Variables that services and flow runs get: REDIS_URL, and PREFECT_API_AUTH_STRING or PREFECT_API_KEY; SENTRY_DSN, WANDB_API_KEY"
  type        = map(string)
  sensitive   = true

  validation {
    condition     = contains(keys(var.secrets), "REDIS_URL")
    error_message = "secrets must have REDIS_URL: the service needs a store for its predictions."
  }
}

variable "api_keys" {
  description = "API keys of the service's clients; the first one is Prometheus'"
  type        = list(string)
  sensitive   = true

  validation {
    condition     = length(var.api_keys) > 0
    error_message = "Give one key at least: without any, everybody may ask the service."
  }
}

variable "concurrency_limit" {
  description = "Flow runs at once; two monitors and a training are three"
  type        = number
  default     = 6
}

variable "notification_block_id" {
  description = "ID of a Prefect notification block that is told of failed trainings and promotions; null tells nobody"
  type        = string
  default     = null
}

variable "rules" {
  description = "Whether the cluster has the Prometheus operator, which takes the alert rules"
  type        = bool
  default     = true
}
