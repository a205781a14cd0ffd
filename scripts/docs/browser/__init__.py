"""The backtest in the reader's browser: what the page at docs/try needs, fetched, checked and added to the site."""

from scripts.docs.browser.assembling import assemble
from scripts.docs.browser.parts import PartError

__all__ = ["PartError", "assemble"]
