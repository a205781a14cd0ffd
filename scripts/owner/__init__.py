"""What the owner of a bot asks: how it does, what it traded and why, what it holds, and what it left undone."""
