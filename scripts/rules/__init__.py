"""Rules of the owner's own: a command that writes the first one, and one that checks what they do."""
