"""Commands that produce the data shipped with the project."""
