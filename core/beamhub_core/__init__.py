"""Core: the words every room uses."""
