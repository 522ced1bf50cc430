"""Saves the model in MLflow's LightGBM flavour: `python mlflow_save.py <directory>`. It is served by `mlflow models serve`."""

import sys

import mlflow.lightgbm
from coding import load_booster

if __name__ == "__main__":
    # Empty requirements: otherwise MLflow starts a process to find them, and serving needs none of it.
    mlflow.lightgbm.save_model(load_booster(), sys.argv[1], pip_requirements=[])
