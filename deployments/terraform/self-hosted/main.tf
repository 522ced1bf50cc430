# A cluster of one's own: Prefect server by PREFECT_API_URL and PREFECT_BASIC_AUTH_KEY, the cluster by KUBE_CONFIG_PATH, an S3 server
# (MinIO, Ceph, Garage) by AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and s3_endpoint.

terraform {
  required_version = ">= 1.6"
  required_providers {
    prefect    = { source = "prefecthq/prefect", version = ">= 2.90, < 3.0" }
    kubernetes = { source = "hashicorp/kubernetes", version = ">= 2.30, < 3.0" }
    aws        = { source = "hashicorp/aws", version = ">= 5.60, < 6.0" }
  }
}

provider "aws" {
  region                      = "us-east-1" # S3 servers want one, and do not look at it
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
  endpoints { s3 = var.s3_endpoint }
}

variable "s3_endpoint" {
  description = "URL of the S3 server"
  type        = string
}

resource "aws_s3_bucket" "registry" {
  bucket = var.bucket
}

resource "aws_s3_bucket_versioning" "registry" {
  bucket = aws_s3_bucket.registry.id
  versioning_configuration { status = "Enabled" }
}

output "registry" {
  description = "PERENNIAL_REGISTRY"
  value       = "s3://${aws_s3_bucket.registry.bucket}"
}
