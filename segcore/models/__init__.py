"""Networks, how they are built from options, and how they come back from files."""
