"""Fixtures of the system tests."""

from tests.pages import browse, opened

__all__ = ["browse", "opened"]
