# Google Cloud: Prefect Cloud or a server by its variables, the cluster (GKE) by KUBE_CONFIG_PATH, the project by GOOGLE_PROJECT.

terraform {
  required_version = ">= 1.6"
  required_providers {
    prefect    = { source = "prefecthq/prefect", version = ">= 2.90, < 3.0" }
    kubernetes = { source = "hashicorp/kubernetes", version = ">= 2.30, < 3.0" }
    google     = { source = "hashicorp/google", version = ">= 6.0, < 8.0" }
  }
}

provider "google" {}

variable "location" {
  description = "Region of the bucket"
  type        = string
  default     = "EU"
}

variable "writers" {
  description = "Members that flow runs are, such as a workload identity"
  type        = list(string)
  default     = []
}

variable "readers" {
  description = "Members that the service is"
  type        = list(string)
  default     = []
}

resource "google_storage_bucket" "registry" {
  name                        = var.bucket
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  versioning { enabled = true }
}

# Only flow runs write: whoever writes there decides what is predicted.
resource "google_storage_bucket_iam_member" "writers" {
  for_each = toset(var.writers)
  bucket   = google_storage_bucket.registry.name
  role     = "roles/storage.objectAdmin"
  member   = each.value
}

resource "google_storage_bucket_iam_member" "readers" {
  for_each = toset(var.readers)
  bucket   = google_storage_bucket.registry.name
  role     = "roles/storage.objectViewer"
  member   = each.value
}

output "registry" {
  description = "PERENNIAL_REGISTRY"
  value       = "gs://${google_storage_bucket.registry.name}"
}
