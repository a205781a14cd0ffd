"""The engines side by side: what they find (`make parity`) and how long they take (`make bench-engine`)."""
