"""Images and labels: opened, checked, split, normalised."""
