"""What people see of a run: Prefect events and artifacts, and a W&B run."""
