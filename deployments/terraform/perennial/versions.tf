terraform {
  required_version = ">= 1.6"
  required_providers {
    prefect = {
      source  = "prefecthq/prefect"
      version = ">= 2.90, < 3.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.30, < 3.0"
    }
  }
}
