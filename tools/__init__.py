"""What keeps the project itself in order; nothing of it is shipped."""
