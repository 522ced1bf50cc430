# The work pool, before `perennial deploy` runs: that finds it, and brings deployments and the automations that start them. Those
# belong to their deployments and are made anew with them, so they are not here; here is what tells people.

locals {
  template = "${path.module}/../../kubernetes/base/base-job-template.json"
}

resource "prefect_work_pool" "perennial" {
  name              = "perennial"
  type              = "kubernetes"
  description       = "Flow runs of Perennial, a Job each"
  concurrency_limit = var.concurrency_limit
  base_job_template = jsonencode(jsondecode(replace(file(local.template), "JOB_IMAGE", var.image)))
}

# What is deployed, for people and scripts that ask Prefect.
resource "prefect_variable" "image" {
  name  = "perennial_image"
  value = var.image
  tags  = ["perennial"]
}

resource "prefect_variable" "specs" {
  name  = "perennial_specs"
  value = sort(keys(var.specs))
  tags  = ["perennial"]
}

resource "prefect_automation" "failed" {
  count       = var.notification_block_id == null ? 0 : 1
  name        = "perennial-failed"
  description = "A training, a promotion or a backtest failed or crashed. A failed monitor is started again and alerts by Prometheus."
  enabled     = true

  trigger = {
    event = {
      posture = "Reactive"
      expect  = ["prefect.flow-run.Failed", "prefect.flow-run.Crashed"]
      match   = jsonencode({ "prefect.resource.id" = "prefect.flow-run.*" })
      match_related = jsonencode({
        "prefect.resource.role" = "flow"
        "prefect.resource.name" = ["train", "retrain", "promote", "backtest"]
      })
      threshold = 1
      within    = 0
    }
  }

  actions = [{
    type              = "send-notification"
    block_document_id = var.notification_block_id
    subject           = "Perennial: {{ flow.name }} {{ flow_run.state.name }}"
    body              = "{{ flow_run.name }}: {{ flow_run.state.message }}\n{{ flow_run | ui_url }}"
  }]
}

# No monitor began for a quarter of an hour: three of its schedule's times.
resource "prefect_automation" "silent" {
  count       = var.notification_block_id == null ? 0 : 1
  name        = "perennial-silent"
  description = "The monitor does not start: is the worker online, is the schedule paused?"
  enabled     = true

  trigger = {
    event = {
      posture = "Proactive"
      expect  = ["prefect.flow-run.Running"]
      match   = jsonencode({ "prefect.resource.id" = "prefect.flow-run.*" })
      match_related = jsonencode({
        "prefect.resource.role" = "flow"
        "prefect.resource.name" = "monitor"
      })
      threshold = 1
      within    = 900
    }
  }

  actions = [{
    type              = "send-notification"
    block_document_id = var.notification_block_id
    subject           = "Perennial: no monitor began for 15 minutes"
    body              = "Predictions wait in the store until it does. Look whether a worker of the pool `perennial` is online."
  }]
}
