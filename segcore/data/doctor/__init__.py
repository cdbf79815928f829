"""The data doctor: recognises what is wrong with images and labels, and proposes the repair."""
