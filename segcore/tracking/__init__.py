"""MLflow: a tracking server is told what the run folders say, and keeps the registry of models."""
