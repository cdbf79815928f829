"""The web app of Segcore Studio."""
