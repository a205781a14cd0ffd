"""The documentation: the reference that is generated from the code, and the site that is built from docs/."""
