# AWS: Prefect Cloud or a server by its variables, the cluster (EKS) by KUBE_CONFIG_PATH, AWS by its usual ones.

terraform {
  required_version = ">= 1.6"
  required_providers {
    prefect    = { source = "prefecthq/prefect", version = ">= 2.90, < 3.0" }
    kubernetes = { source = "hashicorp/kubernetes", version = ">= 2.30, < 3.0" }
    aws        = { source = "hashicorp/aws", version = ">= 5.60, < 6.0" }
  }
}

provider "aws" {}

resource "aws_s3_bucket" "registry" {
  bucket = var.bucket
}

resource "aws_s3_bucket_versioning" "registry" {
  bucket = aws_s3_bucket.registry.id
  versioning_configuration { status = "Enabled" }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "registry" {
  bucket = aws_s3_bucket.registry.id
  rule {
    apply_server_side_encryption_by_default { sse_algorithm = "aws:kms" }
    bucket_key_enabled = true
  }
}

resource "aws_s3_bucket_public_access_block" "registry" {
  bucket                  = aws_s3_bucket.registry.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Only flow runs write: whoever writes there decides what is predicted. Attach `read` to the service, `write` to the flow runs.
data "aws_iam_policy_document" "registry" {
  for_each = {
    read  = ["s3:GetObject", "s3:ListBucket"]
    write = ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"]
  }
  statement {
    actions   = each.value
    resources = [aws_s3_bucket.registry.arn, "${aws_s3_bucket.registry.arn}/*"]
  }
}

resource "aws_iam_policy" "registry" {
  for_each = data.aws_iam_policy_document.registry
  name     = "${var.bucket}-${each.key}"
  policy   = each.value.json
}

output "registry" {
  description = "PERENNIAL_REGISTRY"
  value       = "s3://${aws_s3_bucket.registry.bucket}"
}
