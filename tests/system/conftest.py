"""Fixtures of the system tests."""

from tests.pages import browse

__all__ = ["browse"]
