"""The digest after the close: what a strategy did on a day, whether its records hold, and what needs its owner."""
