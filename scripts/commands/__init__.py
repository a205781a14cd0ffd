"""One file for each command: what it is called with. index.txt names them all, with one line each.

A new command is a line in index.txt, a file here, and a page in docs/; the Makefile and the help read the index.
"""
