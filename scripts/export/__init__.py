"""What the owner of a bot needs for the tax office: fills, lots, income and fees of a year, reconciled."""
