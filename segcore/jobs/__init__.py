"""Jobs: a run folder on disk, a queue that orders them, a supervisor that watches the process."""
