"""`make lookahead`: check that no decision of a backtest uses later prices, and that the check itself can be believed.

trace: what is known of each bar; check: the same backtest on prices that end early; leaks: faults planted on purpose;
sweeps: the same for the choice of settings.
"""
