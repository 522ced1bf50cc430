output "work_pool" {
  description = "Name of the work pool that the worker polls"
  value       = prefect_work_pool.perennial.name
}

output "namespace" {
  description = "Namespace that `kubectl apply --kustomize` fills"
  value       = kubernetes_namespace_v1.perennial.metadata[0].name
}
