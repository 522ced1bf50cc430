# What deployments/kubernetes refers to and does not hold: namespace, specs, secrets and, for the Prometheus operator, the rules.

resource "kubernetes_namespace_v1" "perennial" {
  metadata {
    name   = var.namespace
    labels = { "pod-security.kubernetes.io/enforce" = "restricted" }
  }
}

resource "kubernetes_config_map_v1" "specs" {
  metadata {
    name      = "specs"
    namespace = kubernetes_namespace_v1.perennial.metadata[0].name
  }
  data = var.specs
}

resource "kubernetes_secret_v1" "perennial" {
  metadata {
    name      = "perennial"
    namespace = kubernetes_namespace_v1.perennial.metadata[0].name
  }
  data = var.secrets
}

resource "kubernetes_secret_v1" "api_keys" {
  metadata {
    name      = "api-keys"
    namespace = kubernetes_namespace_v1.perennial.metadata[0].name
  }
  data = {
    api_keys = join("\n", var.api_keys)
    metrics  = split("@", var.api_keys[0])[0]
  }
}

resource "kubernetes_manifest" "rules" {
  count = var.rules ? 1 : 0
  manifest = {
    apiVersion = "monitoring.coreos.com/v1"
    kind       = "PrometheusRule"
    metadata = {
      name      = "perennial"
      namespace = kubernetes_namespace_v1.perennial.metadata[0].name
    }
    spec = yamldecode(file("${path.module}/../../monitoring/rules.yml"))
  }
}
