"""What people see of a run: `report_training` sends Prefect events, shows artifacts and tracks the training in W&B."""
