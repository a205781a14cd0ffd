"""Messages to the owner: what needs a person, told at once, and the digest of the day."""
