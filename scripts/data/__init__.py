"""Commands that make the data that ships with the project."""
