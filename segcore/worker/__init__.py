"""The worker: takes jobs from the queue, starts a process for each, and tells MLflow what happens."""
