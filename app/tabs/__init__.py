"""The tabs beside the workflow; one file each, none knows another."""
