"""The four steps of the workflow, one file each; they never import each other."""
